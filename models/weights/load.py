"""Loading weights from a file into a TinyViT: any published layout, optionally with other classes or windows.

Between `distill.models.weights.tensor_files` (bytes to named tensors) and the network; used by students and by TinyViT
teachers. Files are written by `distill.models.weights.save`.

    file -> tensors -> our names (layouts) -> other classes (class_maps) -> other windows (bias_tables) -> network
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from distill.models.errors import ModelError, WeightsError
from distill.models.tinyvit.bias_tables import TABLE, resize_tables
from distill.models.tinyvit.network import TinyViT
from distill.models.weights import layouts
from distill.models.weights.class_maps import ClassMap, remap_head
from distill.models.weights.tensor_files import read_tensors, stored_numbers

CLASSIFIER = "head.fc."
HEAD = f"{CLASSIFIER}weight"
SHOWN_NAMES = 5


def load_weights(
    net: TinyViT,
    path: str | Path,
    *,
    entry: str | None = None,
    class_map: ClassMap | None = None,
    resize_windows: bool = False,
    new_head: bool = False,
) -> None:
    """Copies the weights in a file into `net`, converting them to its dtype and device.

    **Arguments**

    - `path`: a `.safetensors` file, or one of `torch.save` (only tensors are read, no code is run), in the layout of
      the published TinyViT code, of timm, of mmpretrain or of `save_weights`.
    - `entry`: of a `torch.save` file, the entry that holds the weights, such as `model_ema`; None takes the first of
      `model`, `state_dict`, `module`, `model_ema`, `state_dict_ema`, `ema`.
    - `class_map`: maps the file's head, which is for the map's source classes, to its target classes
      (`match_classes`).
    - `resize_windows`: resizes attention-bias tables where the windows of `net` have another size
      (`distill.models.tinyvit.bias_tables`); without it such a file is refused.
    - `new_head`: leaves out the file's classifier, of any number of classes; that of `net` stays as it is.

    **Raises** WeightsError where the file cannot be read, is for another number of classes, or has missing, unexpected
    or differently shaped tensors; `net` is then unchanged. Stored index buffers of bias tables are ignored.
    """
    state = read_state(path, entry=entry)
    if class_map is not None:
        try:
            state = remap_head(state, class_map)
        except ModelError as error:
            raise WeightsError(f"weights in {path}: {error}") from None
    if new_head:
        state |= {name: tensor for name, tensor in net.state_dict().items() if name.startswith(CLASSIFIER)}
    check_classes(state, head=HEAD, num_classes=net.num_classes, path=path)
    if resize_windows:
        state = resize_tables(state, like=net.state_dict())
    load_strictly(net, state, path=path)


def read_state(path: str | Path, *, entry: str | None = None) -> dict[str, Tensor]:
    """The tensors of a TinyViT file under our names, without bias index buffers.

    **Raises** WeightsError where the file cannot be read or its names have no known layout.
    """
    tensors = read_tensors(path, entry=entry)
    layout = layouts.recognise(tensors)
    if layout is None:
        shown = ", ".join(list(tensors)[:SHOWN_NAMES])
        raise WeightsError(f"the names in {path} are of no known TinyViT layout: {shown}, ...")
    return {
        layouts.to_ours(name, layout=layout): tensor
        for name, tensor in tensors.items()
        if not name.endswith(layouts.INDEX_BUFFERS)
    }


def check_classes(state: Mapping[str, Tensor], *, head: str, num_classes: int, path: str | Path) -> None:
    """Checks the number of classes of the classifier's weight, the tensor named `head`.

    **Raises** WeightsError naming both numbers where they differ.
    """
    if head in state and (file_classes := state[head].shape[0]) != num_classes:
        raise WeightsError(
            f"weights in {path} are for {file_classes} classes, the model has {num_classes}: "
            f"build it with num_classes={file_classes}, or use other weights"
        )


def require_size(blank: nn.Module, path: str | Path) -> None:
    """Checks that a safetensors file holds about as many numbers as a network, before that is made: what a header says
    of sizes is not believed.

    **Arguments** `blank`: the network on the device `meta`, which takes no memory.

    **Raises** WeightsError.
    """
    needed, stored = sum(tensor.numel() for tensor in blank.state_dict().values()), stored_numbers(path)
    if needed > 2 * stored + 2**20:
        raise WeightsError(
            f"{path} describes a network of {needed:,} numbers and holds {stored:,}: its header is wrong, or it is cut"
        )


def load_strictly(net: nn.Module, state: Mapping[str, Tensor], *, path: str | Path) -> None:
    """Copies `state` into `net` if and only if names and shapes are the same.

    **Raises** WeightsError listing the first missing, unexpected and differently shaped tensors; `net` is then
    unchanged.
    """
    expected = net.state_dict()
    faults = []
    if missing := [name for name in expected if name not in state]:
        faults.append(f"missing {_first(missing)}")
    if unexpected := [name for name in state if name not in expected]:
        faults.append(f"unexpected {_first(unexpected)}")
    reshaped = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    if reshaped:
        shapes = [f"{name} {tuple(state[name].shape)} for {tuple(expected[name].shape)}" for name in reshaped]
        faults.append(f"other shape {_first(shapes)}")
        if all(name.endswith(TABLE) for name in reshaped):
            faults.append("the weights are for other attention windows (another image size), and resize_windows is off")
    if faults:
        raise WeightsError(f"weights in {path} do not fit the model: {'; '.join(faults)}")
    net.load_state_dict(state)


def _first(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
