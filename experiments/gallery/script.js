const root = document.documentElement;
const of = (id) => document.getElementById(id);
const list = document.querySelector("main");
const runs = [...list.children];
const words = new Map(runs.map((run) => [run, run.textContent.toLowerCase()]));

function show() {
  const wanted = of("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const state = of("state").value;
  for (const run of runs) {
    const found = wanted.every((word) => words.get(run).includes(word));
    run.hidden = !found || (state && !run.dataset.states.split(" ").includes(state));
  }
  const order = of("order").value;
  const sign = order === "place" ? 1 : -1;
  runs.sort((a, b) => sign * (a.dataset[order] - b.dataset[order]) || a.dataset.place - b.dataset.place);
  list.append(...runs);
  of("none").hidden = runs.some((run) => !run.hidden);
}

for (const id of ["search", "state", "order"]) of(id).addEventListener("input", show);
document.forms[0].addEventListener("submit", (event) => event.preventDefault());

root.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
of("theme").addEventListener("click", () => {
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
});

const large = of("large");
list.addEventListener("click", (event) => {
  const picture = event.target.closest(".figure");
  if (!picture) return;
  large.firstChild.src = picture.firstChild.src;
  large.firstChild.alt = picture.firstChild.alt;
  large.showModal();
});
large.addEventListener("click", () => large.close());
