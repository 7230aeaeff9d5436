"""One run of a network before it is converted: what ran, what each layer took and gave, and which only make gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from torchbcos._core.errors import BcosError, InputError, StateError, shorten
from torchbcos._core.frozen import Session
from torchbcos._core.torch_private import version
from torchbcos.explanation.forward import picked
from torchbcos.kinds import Watch

__all__ = ["Recording", "Run", "listening", "record", "tensor_in"]

# functions whose second and third arguments are a weight and a bias
_MAPS = ("conv1d", "conv2d", "conv3d", "linear")
_LIKE = ("to", "type_as", "expand_as", "view_as", "reshape_as")  # of their second tensor only what it is like
_LOOKS = ("__get__", "size", "dim", "numel", "stride", "is_contiguous", "is_floating_point", "requires_grad_", "type")


@dataclass
class Run:
    """What was seen of one module that ran.

    Attributes:
        path: its name in the network.
        module: it.
        order: when it was first called, counted from 0.
        calls: how often.
        args, kwargs: what it was first called with; tensors are copies.
        y: what it gave first, a copy; of a tuple its first entry; None where that is no tensor.
        x_from: path of the module whose output that very tensor was; "" the network's input; None: neither.
        readers: how many operations read its output.
        functions: names of the torch functions that its own code called.
        weight, bias: those of the first convolution or linear map that its own code called; they may be made of its parameters.
        signal: whether the network's outputs depend on its output by more than gates.
        last: whether its output is the network's.
    """

    path: str
    module: nn.Module
    order: int
    calls: int = 0
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    y: Tensor | None = None
    x_from: str | None = None
    readers: int = 0
    functions: list[str] = field(default_factory=list)
    weight: Tensor | None = None
    bias: Tensor | None = None
    signal: bool = False
    last: bool = False

    @property
    def x(self) -> Tensor | None:
        """What it took first, where that is a tensor."""
        first = self.args[0] if self.args else next(iter(self.kwargs.values()), None)
        return first if isinstance(first, Tensor) else None


@dataclass
class Recording:
    """All modules that ran, in the order of their calls.

    Attributes:
        runs: by path.
        outputs: (N, classes) of the network.
        input_readers: how many operations read its input.
        elsewhere: of weights that code outside of their module used: path of their module, and of the one whose code it was.
        constants: names of the constants of its logits.
    """

    runs: dict[str, Run]
    outputs: Tensor
    input_readers: int
    elsewhere: dict[str, str]
    constants: tuple[str, ...] = ()

    def never_ran(self, network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[str]:
        """Paths of the modules of these classes that did not run."""
        layers = [path for path, module in network.named_modules() if isinstance(module, kinds)]
        return [path for path in layers if path not in self.runs and path not in self.elsewhere]


def tensor_in(outputs: Any, output: str | int | None = None) -> Tensor | None:
    """The logits among what a network gave: a tensor, or an entry; None where there is none.

    Raises:
        InputError: there is no such entry.
    """
    outputs = picked(outputs, output)
    return outputs if isinstance(outputs, Tensor) else None


def record(network: nn.Module, x: Tensor, output: str | int | None = None) -> Recording:
    """Run a network twice: once to see what its layers take and give, once to see which of them only make gates.

    Args:
        network: in eval mode.
        x: (N, C, *S) as it takes it, few examples: copies of all that its layers take and give are kept.
        output: which entry holds the logits.

    Raises:
        InputError: it does not run on these.
        StateError: it gives no logits (N, classes), none that are numbers, or cannot be explained.
    """
    found = _looked(network, x, output)
    _find_signals(network, x[:1], output, found)  # of one image, whatever the layout inside
    return found


def _looked(network: nn.Module, x: Tensor, output: str | int | None) -> Recording:
    owners: dict[int, set[str]] = {}  # two modules may share a parameter
    for path, module in network.named_modules():
        for p in module.parameters(recurse=False):
            owners.setdefault(id(p), set()).add(path)
    mode = _Readers(owners)
    runs = mode.runs
    given: dict[str, int] = {}  # by id, what each module gave
    mode.alive.append(x)

    def enter(path: str, module: nn.Module) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            mode.stack.append(path)
            run = runs.setdefault(path, Run(path, module, len(runs)))
            run.calls += 1
            first = args[0] if args else next(iter(kwargs.values()), None)
            if run.calls == 1 and isinstance(first, Tensor):
                maker = mode.makers.get(id(first))
                run.args, run.kwargs = mode.copy_of(args), mode.copy_of(kwargs)
                run.x_from = "" if first is x else maker if maker is not None and given.get(maker) == id(first) else None

        return hook

    def leave(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], y: Any) -> None:
            mode.stack.pop()
            y = _first(y)
            if isinstance(y, Tensor):
                runs[path].y = mode.copy_of(y) if runs[path].calls == 1 else runs[path].y
                mode.alive.append(y)
                given[path] = id(y)

        return hook

    try:
        with _hooks(network, enter, leave), torch.no_grad(), mode:
            outputs = network(x)
    except BcosError:
        raise
    except Exception as error:  # of any class: it is somebody else's code
        said = shorten(" ".join(str(error).split()), 200).rstrip(".")
        raise InputError(f"This network does not run on examples of shape {tuple(x.shape[1:])}: {said}.") from error
    logits = tensor_in(outputs, output)
    if logits is None or logits.dim() != 2 or len(logits) != len(x):
        what = tuple(logits.shape) if logits is not None else type(outputs).__name__
        raise StateError(
            f"bcosify takes classifiers, which give logits (N, classes); this {type(network).__name__} gave {what}. "
            "Put a head behind it, or name the entry of its output that holds them, output='logits' or output=0."
        )
    if not bool(logits.isfinite().all()):
        raise StateError(
            "The given network gives no number for the example (NaN or infinite logits), so there is nothing to keep."
        )
    for path, key in given.items():
        runs[path].readers, runs[path].last = mode.readers[key], key == id(logits)
    return Recording(runs, logits.detach().clone(), mode.readers[id(x)], mode.elsewhere)


class _Readers(TorchFunctionMode):
    """Counts who reads which tensor, and sees whose code uses which weight."""

    def __init__(self, owners: dict[int, set[str]]) -> None:
        super().__init__()
        self.owners = owners
        self.stack: list[str] = []
        self.runs: dict[str, Run] = {}
        self.readers: Counter[int] = Counter()
        self.alive: list[Any] = []  # so that an id stays one tensor's
        self.elsewhere: dict[str, str] = {}
        self.makers: dict[int, str] = {}
        self.copying = False

    def copy_of(self, value: Any) -> Any:
        """A copy of a tensor, or of those in a tuple or dictionary, that counts for no reading."""
        if isinstance(value, tuple):
            return tuple(self.copy_of(v) for v in value)
        if isinstance(value, dict):
            return {key: self.copy_of(v) for key, v in value.items()}
        if not isinstance(value, Tensor):
            return value
        self.copying = True
        try:
            return value.detach().clone()
        finally:
            self.copying = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        given = list(_tensors((*args, *kwargs.values())))
        versions = [version(t) for t in given]
        value = func(*args, **kwargs)
        changed = any(version(t) != v for t, v in zip(given, versions, strict=True))
        if name in _LOOKS or self.copying or not (changed or any(True for _ in _tensors((value,)))):  # len(x), x.shape
            return value
        self.alive.append((given, value))
        # what hands a tensor on as it is reads nothing: dropout in eval mode, contiguous
        self.readers.update({id(t) for t, v in zip(given, versions, strict=True) if changed or t is not value})
        here = self.stack[-1] if self.stack else ""
        for made in _tensors((value,)):
            self.makers.setdefault(id(made), here)
        run = self.runs.get(here)
        if run is not None and run.calls == 1:
            run.functions.append(name)
            if name in _MAPS and run.weight is None:
                named = {**dict(zip(("input", "weight", "bias"), args, strict=False)), **kwargs}
                run.weight, run.bias = named.get("weight"), named.get("bias")
        for t in given[:1] if name in _LIKE else given:
            owners = self.owners.get(id(t), set())
            for owner in owners if here not in owners else ():
                self.elsewhere.setdefault(owner, here)
        return value


def _first(given: Any) -> Any:
    """What a module gave; of a tuple its first entry."""
    return given[0] if isinstance(given, tuple) and given else given


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


@contextmanager
def _hooks(
    network: nn.Module, enter: Callable[[str, nn.Module], Callable[..., None]] | None, leave: Callable[[str], Callable[..., None]]
) -> Iterator[None]:
    """Hooks on every module, taken away again."""
    handles = []
    for path, module in network.named_modules():
        if enter is not None:
            handles.append(module.register_forward_pre_hook(enter(path, module), with_kwargs=True))
        handles.append(module.register_forward_hook(leave(path)))
    with listening(handles):
        yield


@contextmanager
def listening(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Hooks that stand for as long as the block runs."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


def _find_signals(network: nn.Module, x: Tensor, output: str | int | None, found: Recording) -> None:
    """Mark the modules through whose output the logits depend on the input by more than gates."""
    given: dict[str, Tensor] = {}

    def leave(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], y: Any) -> None:
            y = _first(y)
            if isinstance(y, Tensor) and y.requires_grad:
                given.setdefault(path, y)

        return hook

    with Session.of(network, x) as state, _hooks(network, None, leave):
        watch = Watch(state, products="half")
        with watch:
            outputs = network(state.inputs)
        logits = tensor_in(outputs, output)
        assert logits is not None  # it was there before
        watch.require_linear(logits, "outputs")
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn(logits.shape, generator=generator, dtype=torch.float64).to(logits)
        leaves = [*given.values(), *state.probes.values()]
        try:
            gradients = torch.autograd.grad((logits * weights).sum(), leaves, allow_unused=True)
        except RuntimeError as error:
            said = shorten(str(error).partition("Hint:")[0].partition(": [")[0], 200).rstrip(". ")
            raise StateError(f"This network has no derivative to explain it by: {said}.") from error
        reach = [gradient is not None for gradient in gradients]  # zero, where a branch begins at nothing
        found.constants = tuple(name for name, there in zip(state.probes, reach[len(given) :], strict=True) if there)
    for path, there in zip(given, reach, strict=False):
        if path in found.runs:
            found.runs[path].signal = there
