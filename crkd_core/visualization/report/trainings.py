"""How the models were trained: loss terms, validation scores, norms and cosines of gradients."""

from collections.abc import Mapping, Sequence

from crkd_core.visualization.report.contents import ReportModel
from crkd_core.visualization.report.line_chart import line_chart
from crkd_core.visualization.report.markup import Markup, element, joined, table
from crkd_core.visualization.training_curves import RecordedTraining


def training_section(models: Sequence[ReportModel]) -> Markup:
    """The curves of every model whose run recorded them."""
    charts = [chart for model in models if model.training is not None for chart in _charts(model.name, model.training)]
    if not charts:
        text = "No training of these models is recorded in the workspace (of results files there is none)."
        return element("p", text, class_="nothing")
    parts = [element("div", *charts, class_="charts")]
    without = [model.name for model in models if model.training is None]
    if without:
        parts.append(element("p", f"No training is recorded of {', '.join(without)}.", class_="nothing"))
    return joined(parts)


def _charts(model: str, training: RecordedTraining) -> list[Markup]:
    curves, name = training.curves, f"{model} ({training.run})"
    losses = {family: number for number, family in enumerate(curves.losses)}
    charts = [line_chart(f"{name}: loss terms, weighted", curves.losses, losses)]
    if curves.scores:
        scores = {score: number for number, score in enumerate(curves.scores)}
        charts.append(line_chart(f"{name}: validation scores", curves.scores, scores, logarithmic=False))
    for layer, norms in curves.norms.items():
        families = {family: number for number, family in enumerate(dict.fromkeys([*curves.losses, *norms]))}
        charts.append(line_chart(f"{name}: gradient norms at {layer}", norms, families))
    return charts + [_cosines(name, layer, cosines) for layer, cosines in curves.cosines.items() if cosines]


def _cosines(name: str, layer: str, cosines: Mapping[tuple[str, str], float]) -> Markup:
    """Positive where two terms pull together, negative where they pull apart."""
    families = list(dict.fromkeys(family for pair in cosines for family in pair))
    both = {**cosines, **{(second, first): cosine for (first, second), cosine in cosines.items()}}
    rows = [(family, *(_cell(both.get((family, other))) for other in families)) for family in families]
    cells = table("1: terms pull together, -1: apart", ("", *families), rows, class_="cosines")
    return element("figure", element("figcaption", f"{name}: mean cosines of gradients at {layer}"), cells)


def _cell(cosine: float | None) -> Markup:
    if cosine is None:
        return Markup("")
    kind = "together" if cosine >= 0 else "apart"
    return element("span", f"{cosine:+.2f}", class_=kind, style=f"--strength:{100 * min(abs(cosine), 1.0):.0f}%")
