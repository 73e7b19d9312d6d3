"""The experiments by name, and where the parts of each are."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any

from .shared.durations import duration

if TYPE_CHECKING:
    import pandas as pd
    from jax.sharding import Mesh
    from matplotlib.figure import Figure

    from .shared.claims import Claim
    from .shared.results import Result
    from .shared.tables import Table

PRESETS = {
    "smoke": "seconds",
    "default": "minutes, embedded data",
    "paper": "the paper's data and sizes",
}
"""The presets that every experiment has, and what they mean; a family may have more."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A figure: settings of a family, and what is shown of the runs. Modules load when used.

    So a list of the experiments needs neither JAX nor pandas.

    Attributes:
        name: The name of the experiment and of the folder of its runs.
        package: The package of its family in ``experiments``.
        title: One line.
        changes: Fields of the family's presets that this experiment sets otherwise.
        view: Where one run has several figures, the package in ``package`` with the claims and
            the drawing of this one.
        minutes: By the name of a preset, the processor time that it takes.
    """

    name: str
    package: str
    title: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    view: str = ""
    minutes: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def presets(self) -> dict[str, Any]:
        """The configurations by the names of ``PRESETS``."""
        found: dict[str, Any] = self.module().PRESETS
        return {name: dataclasses.replace(config, **self.changes) for name, config in found.items()}

    def preset(self, name: str) -> Any:
        """One configuration.

        Raises:
            ValueError: If there is none of that name.
        """
        if name not in self.presets:
            raise ValueError(f"preset is {name!r}: wanted one of {', '.join(self.presets)}")
        return self.presets[name]

    def run(
        self,
        config: Any,
        *,
        folder: Path | None = None,
        data_dir: str | None = None,
        mesh: Mesh | None = None,
    ) -> Result:
        """Compute a result; go on from what is in ``folder``.

        Args:
            config: The settings.
            folder: Of the run; None: nothing is kept.
            data_dir: Of the data sets.
            mesh: Devices over which networks are spread, as many of them as can take an equal
                share each; None: JAX's default device.
        """
        from .shared.devices import spread_over

        with spread_over(mesh):
            arrays, info = self.module("compute").run(config, folder=folder, data_dir=data_dir)
        return self.result(config, arrays, info)

    def result(self, config: Any, arrays: Mapping[str, Any], info: Mapping[str, Any]) -> Result:
        """Label the arrays of a run."""
        from .shared.results import Result, label

        family = self.module()
        data = label(arrays, family.DIMENSIONS, family.coordinates(config))
        return Result(config, data, dict(info))

    def claim_data(self, config: Any, folder: Path | None, data_dir: str | None = None) -> None:
        """Read the data, if any are, and compare them with those of a run folder if it is given.

        A family without a setting ``dataset`` reads and claims its data in ``compute.read``.

        Raises:
            ValueError: If they are others.
        """
        compute = self.module("compute")
        if hasattr(compute, "read"):
            compute.read(config, folder, data_dir)
        elif hasattr(config, "dataset"):
            from .shared.training import load_splits

            load_splits(config.dataset, data_dir, folder=folder)

    def check_labels(self, result: Result) -> None:
        """Raise ``ValueError`` if arrays are missing, or lie along other seeds or layers."""
        family, data = self.module(), result.data
        if missing := sorted(set(family.DIMENSIONS) - set(data.data_vars)):
            raise ValueError(f"it lacks {', '.join(missing)}")
        for dim, values in family.coordinates(result.config).items():
            if dim in data.dims and data[dim].values.tolist() != list(values):
                raise ValueError(f"its {dim} is {data[dim].values.tolist()}, wanted {[*values]}")

    def networks(self, result: Result) -> pd.DataFrame:
        """A row for each network, see ``table_of_runs``."""
        from .shared.results import table_of_runs

        return table_of_runs(result.data, self.module().RUNS)

    def check(self, result: Result) -> list[Claim]:
        """Check the paper's claims against the runs that did not diverge; none if too small."""
        from .shared.lost import diverged, without

        if self.too_small(result.config):
            return []
        counted = without(result, diverged(result.data, self.module().RUNS))
        claims = self.shown("claims")
        says: Mapping[str, str] = getattr(claims, "SAYS", {})

        def with_paper(claim: Claim) -> Claim:
            phrase = next(
                (text for start, text in says.items() if claim.statement.startswith(start)), ""
            )
            return dataclasses.replace(claim, paper=claim.paper or phrase)

        return [with_paper(claim) for claim in claims.check(counted)]

    def too_small(self, config: Any) -> bool:
        """Whether a run trains no longer than the smoke preset's, which decides nothing."""
        smoke, default = self.preset("smoke"), self.preset("default")
        lengths = [name for name in ("epochs", "steps") if hasattr(config, name)]
        return config == smoke or any(
            getattr(config, name) <= getattr(smoke, name) < getattr(default, name)
            for name in lengths
        )

    def notes(self, result: Result) -> list[str]:
        """What a reader of the result has to know, a line each."""
        from .shared.lost import note_of_divergence

        lines = [note_of_divergence(result.data, self.module().RUNS)]
        if changed := result.info.get("changes"):
            lines.append(f"versions changed while it ran: {', '.join(changed)}")
        if self.too_small(result.config):
            lines.append("no verdicts: a run as short as the smoke preset's decides nothing")
        return [line for line in lines if line]

    def table(self, result: Result) -> Table | str:
        """The numbers, as a table or as text."""
        found: Table | str = self.shown("claims").table(result)
        return found

    def plot(self, result: Result) -> Figure:
        """The figure; where runs diverged, it says how many. ``notes`` names them."""
        from .shared.drawing import entitle, styled
        from .shared.lost import note_of_divergence

        with styled():
            figure: Figure = self.shown("draw").plot(result)
            if gone := note_of_divergence(result.data, self.module().RUNS):
                entitle(figure, gone.partition(":")[0])
        return figure

    def pictures(self, result: Result, kind: str = "png") -> dict[str, Callable[[IO[bytes]], None]]:
        """Names of the pictures of a result, the figure first, and what draws each into a file.

        Args:
            result: What to draw.
            kind: The format of figures; animations and tables have one of their own.
        """
        from .shared.drawing import write

        draw = self.shown("draw")
        further = draw.figures(result) if hasattr(draw, "figures") else {}
        figures = {"figure": lambda: self.plot(result), **further}
        drawn = {
            f"{name}.{kind}": functools.partial(write, figure, kind=kind)
            for name, figure in figures.items()
        }
        return {**drawn, **(draw.extras(result) if hasattr(draw, "extras") else {})}

    def captions(self, result: Result) -> dict[str, str]:
        """By the names of the figures without their endings, what each shows, in words."""
        from .shared.text import minus

        draw = self.shown("draw")
        found = draw.captions(result) if hasattr(draw, "captions") else {"figure": self.title}
        return {name: minus(text) for name, text in found.items()}

    def duration(self, preset: str) -> str:
        """The processor time of a preset, as a person says it."""
        if preset in self.minutes:
            return duration(60 * self.minutes[preset])
        return "seconds" if preset == "smoke" else "not measured"

    def of_same_runs(self) -> list[Experiment]:
        """The other experiments that show the same runs."""
        same = [e for e in EXPERIMENTS if (e.package, e.changes) == (self.package, self.changes)]
        return [e for e in same if e.name != self.name]

    def shown(self, part: str) -> ModuleType:
        """The module with the claims or the drawing, by name."""
        return self.module(*filter(None, (self.view, part)))

    def module(self, *names: str) -> ModuleType:
        """The package of the family, or a module in it."""
        return importlib.import_module(".".join(("", self.package, *names)), __package__)


EXPERIMENTS = (
    Experiment(
        "fig01_swissroll",
        "swissroll",
        "Figure 1: the virtual update unrolls the swiss roll, with the Gram's contours.",
        minutes={"default": 0.25},
    ),
    Experiment(
        "fig02_gram_whitening",
        "gram_only",
        "Figure 2: a network learns with its Grams alone.",
        minutes={"default": 5.7},
    ),
    Experiment(
        "fig04_target_linearity",
        "target_linearity",
        "Figure 4: target linearity and its surrogate, layer by layer, as a network trains.",
        minutes={"default": 0.8},
    ),
    Experiment(
        "fig05_vae_interpolation",
        "vae",
        "Figure 5: a VAE interpolates between images as linearly as its code is linear in them.",
        view="interpolation",
        minutes={"default": 1.5},
    ),
    Experiment(
        "fig06_gram_whitening_cnn",
        "gram_only",
        "Figure 6: figure 2 with a convolutional network.",
        changes={"network": "cnn", "width": 16, "depth": 3, "momentum": 0.95},
        minutes={"default": 4},
    ),
    Experiment(
        "fig08_staircase",
        "staircase",
        "Figure 8: a staircase function learnt by networks from rich to lazy.",
        minutes={"default": 4},
    ),
    Experiment(
        "fig09_target_linearity_adam",
        "target_linearity",
        "Figure 9: figure 4 with Adam in place of SGD.",
        changes={"optimizer": "adam", "learning_rate": 1e-4},
        minutes={"default": 0.9},
    ),
    Experiment(
        "fig10_vae_target_linearity",
        "vae",
        "Figure 10: reconstruction error and target linearity of a VAE's code, as it trains.",
        view="linearity",
        minutes={"default": 1.5},
    ),
    Experiment(
        "fig11_bert",
        "bert",
        "Figure 11: target linearity in BERT, from random weights to fine-tuned ones.",
        minutes={"default": 27, "encoder": 118},
    ),
    Experiment(
        "fig12_random_labels",
        "random_labels",
        "Figure 12: target linearity of random labels.",
        minutes={"default": 4.2},
    ),
    Experiment(
        "fig13_grokking",
        "grokking",
        "Figure 13: grokking, and what target linearity shows of it.",
        minutes={"default": 2.7, "paper": 14},
    ),
    Experiment(
        "neural_collapse",
        "neural_collapse",
        "Neural collapse beside target linearity, to the terminal phase of training.",
        minutes={"default": 4.4, "paper": 12},
    ),
    Experiment(
        "latent_dimensions",
        "latent_dimensions",
        "Latent dimensions of representations and weights, and rainbow networks: an MLP.",
        minutes={"default": 0.75},
    ),
    Experiment(
        "cnn_latent_dimensions",
        "latent_dimensions",
        "Latent dimensions of a convolutional network.",
        changes={"network": "cnn"},
        minutes={"default": 1.4},
    ),
    Experiment(
        "wavelet_latent_dimensions",
        "latent_dimensions",
        "Latent dimensions of a network of wavelets and learnt maps of channels.",
        changes={"network": "wavelets"},
        minutes={"default": 1.5},
    ),
    Experiment(
        "deep_linear",
        "deep_linear",
        "Deep linear networks: steps on data and on covariances alone, and the exact curves.",
        minutes={"default": 1.2, "paper": 17},
    ),
    Experiment(
        "ansatz",
        "ansatz",
        "A thousand networks for the neural feature ansatz, beside its rivals and their nulls.",
        minutes={"default": 9.3, "paper": 13.3},
    ),
)


def find(name: str) -> Experiment:
    """The experiment of that name, or of a name that begins so.

    Raises:
        ValueError: If there is none, or more than one.
    """
    found = [e for e in EXPERIMENTS if e.name.startswith(name)]
    exact = [e for e in found if e.name == name]
    if len(exact or found) != 1:
        names = ", ".join(e.name for e in EXPERIMENTS)
        raise ValueError(f"name is {name!r}: wanted one of {names}")
    return (exact or found)[0]
