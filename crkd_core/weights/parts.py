"""Published weights of one part of a detector, for whoever takes a single module from it."""

from collections.abc import Mapping

from torch import Tensor, nn

from crkd_core.errors import ConfigError
from crkd_core.weights.matching import StateDict, match_tensors
from crkd_core.weights.naming import our_name

_VIEW_CONSTANTS = ("dx", "bx", "nx", "frustum")
_POSITIONS = "relative_position_index"


def import_part(state: Mapping[str, Tensor], module: nn.Module, published_path: str, path: str) -> StateDict:
    """Our state dict of a module from the published state dict of the same module, both without the path to it.

    Constants (grid, frustum, Swin's relative positions) are left out: our modules compute them.

    Args:
        state: tensors of the published module, names relative to it.
        module: the same of this package, for the names and shapes it expects.
        published_path, path: where the module sits in a whole detector, as ``encoders.camera.neck`` and
            ``camera.neck``.

    Raises:
        ConfigError: tensors are missing, unexpected or of another shape than the module's.
    """
    renamed = {}
    for key, tensor in state.items():
        if key.endswith(_POSITIONS) or (published_path.endswith("vtransform") and key in _VIEW_CONSTANTS):
            continue
        name = our_name(f"{published_path}.{key}")
        if name is None or not name.startswith(f"{path}."):
            raise ConfigError(
                f"no tensor of {path} corresponds to the published {published_path}.{key}; expected the weights of "
                f"{published_path} alone, named relative to it"
            )
        renamed[name.removeprefix(f"{path}.")] = tensor
    return match_tensors(renamed, {key: tensor.shape for key, tensor in module.state_dict().items()})
