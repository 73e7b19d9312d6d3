// KaTeX sets what the Markdown extension marks: \(inline\) and \[display\]. What it cannot set stays text.
for (const element of document.querySelectorAll(".arithmatex")) {
  const text = element.textContent.trim();
  try {
    element.innerHTML = katex.renderToString(text.slice(2, -2), { displayMode: text.startsWith("\\[") });
  } catch (error) {
    console.error(error);
  }
}
