"""One module with its recorded weights: what all runners of modules share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from crkd_core.errors import ConfigError
from crkd_core.weights.naming import our_name, published_name
from crkd_core.weights.parts import import_part
from tests.parity.cases import GoldenCase
from tests.parity.comparison import Comparison


@dataclass(frozen=True)
class Part:
    """One of our modules, and where it sits in a whole detector, there and here."""

    module: nn.Module
    published: str
    prefix: str

    def load(self, state: Mapping[str, Tensor], left_out: Sequence[str] = ()) -> "Part":
        """Load recorded weights (named relative to the module) through the import of published weights.

        Args:
            left_out: beginnings of the published names of weights that the case lacks; they stay as they are.
        """
        published = {published_name(f"{self.prefix}.{key}"): value for key, value in self.module.state_dict().items()}
        kept = {str(key).removeprefix(f"{self.published}."): value for key, value in published.items()}
        state = {**{key: value for key, value in kept.items() if key.startswith(tuple(left_out))}, **state}
        self.module.load_state_dict(import_part(state, self.module, self.published, self.prefix))
        return self

    def name(self, key: str) -> str:
        """Our name, within the module, of one of its published tensors."""
        name = our_name(f"{self.published}.{key}")
        if name is None:
            raise ConfigError(f"{self.published}.{key} is no tensor of a published detector")
        return name.removeprefix(f"{self.prefix}.")


def check_outputs(comparison: Comparison, outputs: Mapping[str, Tensor], prefix: str = "out/") -> None:
    """Compare the outputs that were recorded."""
    for name, value in outputs.items():
        if f"{prefix}{name}" in comparison.case:
            comparison.check(f"{prefix}{name}", value)


def check_training(
    comparison: Comparison, part: Part, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
) -> None:
    """Compare gradients of the recorded cotangents' products, and the running statistics after the call.

    Args:
        inputs: leaves by the name under which their gradients are recorded.
        outputs: results by the name of their cotangents.
    """
    case = comparison.case
    products = [(value * cotangent).sum() for name, value in outputs.items() for cotangent in _cotangents(case, name)]
    if products:
        sum(products[1:], products[0]).backward()
    for name, leaf in inputs.items():
        if f"grad/{name}" in case:
            comparison.check(f"grad/{name}", leaf.grad)
    check_parameter_gradients(comparison, part)
    check_statistics(comparison, part, "out_train_state/")
    check_statistics(comparison, part, "out_state/")


def check_parameter_gradients(comparison: Comparison, part: Part, prefix: str = "grad/param/") -> None:
    """Compare the gradients of parameters recorded under `prefix`, named relative to the module."""
    parameters = dict(part.module.named_parameters())
    for key in comparison.case.keys(prefix):
        name = part.name(key.removeprefix(prefix))
        scale = None
        if part.module.training and is_bias_before_norm(part.module, name):
            comparison.rule("zero-gradient")
            scale = float(parameters[f"{name.removesuffix('bias')}weight"].grad.abs().max())
        comparison.check(key, parameters[name].grad, scale=scale)


def check_statistics(comparison: Comparison, part: Part, prefix: str) -> None:
    """Compare running statistics recorded under `prefix`, named relative to the module."""
    for key in comparison.case.keys(prefix):
        comparison.check(key, part.module.state_dict()[part.name(key.removeprefix(prefix))])


def is_bias_before_norm(module: nn.Module, name: str) -> bool:
    """Whether a parameter is the bias of a layer that a batch norm follows in the same sequence."""
    path, _, leaf = name.rpartition(".")
    parent, _, index = path.rpartition(".")
    if leaf != "bias" or not index.isdigit():
        return False
    sequence = module.get_submodule(parent)
    following = int(index) + 1
    return (
        isinstance(sequence, nn.Sequential)
        and following < len(sequence)
        and isinstance(sequence[following], nn.BatchNorm1d | nn.BatchNorm2d)
    )


def leaves(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that require gradients."""
    return {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}


def _cotangents(case: GoldenCase, output: str) -> list[Tensor]:
    names = [f"in/cotangent_{output}", f"in/cotangent{output}", "in/cotangent"]
    return [case[name] for name in names if name in case][:1]
