"""What is in a program: its loops, and the matrix products in them.

Reads the text of optimised HLO, `compiled.as_text()`, as XLA for CPUs writes it, and the traces of
functions before they are compiled.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%?([\w.\-]+) = (\((?:[^()]|\([^()]*\))*\)|\S+) ([a-z][\w\-]*)\((.*)$"
)
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|branch_computations)=(?:\{([^}]*)\}|%?([\w.\-]+))"
)
_KINDS = ("contracting", "batch")
_SHAPE = re.compile(r"[a-z]\w*\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of HLO: its name, type, operation, and the text after the opening bracket."""

    name: str
    type: str
    operation: str
    rest: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape; that of the first array of a tuple."""
        return _dims(self.type)

    @property
    def called(self) -> list[str]:
        """The computations it calls."""
        names = [
            name
            for several, one in _CALLED.findall(self.rest)
            for name in (several or one).split(",")
        ]
        return [name.strip().removeprefix("%") for name in names if name.strip()]


@dataclasses.dataclass(frozen=True, order=True)
class Product:
    """A matrix product of f32[M, K] and f32[K, N], `batch` of them at once.

    M >= N: a product and the product of the transposed matrices are one to compute.
    """

    m: int
    k: int
    n: int
    batch: int = 1

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.batch * self.m * self.k * self.n

    @classmethod
    def of(
        cls, lhs: Sequence[int], out: int, contracting: Sequence[int], batch: Sequence[int]
    ) -> "Product":
        """Returns the product of a left operand, by its axes, with an output of so many numbers."""
        k, b = (math.prod(lhs[i] for i in axes) for axes in (contracting, batch))
        m = math.prod(lhs) // (k * b)
        n = out // (m * b)
        return cls(m=max(m, n), k=k, n=min(m, n), batch=b)


Program = dict[str, list[Instruction]]


def parse(text: str) -> Program:
    """Returns the instructions of each computation by its name."""
    program: Program = {}
    current: list[Instruction] = []
    for line in text.splitlines():
        line = re.sub(r"/\*.*?\*/", "", line)
        if start := _COMPUTATION.match(line):
            current = program.setdefault(start.group(1), [])
        elif instruction := _INSTRUCTION.match(line):
            current.append(Instruction(*instruction.groups()))
    return program


def reachable(program: Program, name: str) -> Iterator[tuple[str, Instruction]]:
    """Yields the instructions of a computation and of all it calls, each once."""
    seen, waiting = {name}, [name]
    while waiting:
        current = waiting.pop()
        for instruction in program[current]:
            yield current, instruction
            new = [called for called in instruction.called if called not in seen]
            seen.update(new)
            waiting.extend(new)


def training_loops(program: Program) -> list[str]:
    """Returns the bodies of the loops that multiply matrices, but of none around another."""
    bodies = [
        re.search(r"body=%?([\w.\-]+)", instruction.rest)
        for instructions in program.values()
        for instruction in instructions
        if instruction.operation == "while"
    ]
    names = [body.group(1) for body in bodies if body]
    loops = [
        name
        for name in names
        if any(instruction.operation == "dot" for _, instruction in reachable(program, name))
    ]
    inner = {
        other
        for name in loops
        for other in loops
        if other != name and other in {computation for computation, _ in reachable(program, name)}
    }
    return sorted(inner or set(loops))


def products(program: Program, names: Iterable[str] | None = None) -> list[Product]:
    """Returns the matrix products of computations and of all they call, sorted.

    Args:
      program: as `parse` returns it.
      names: where to look; everywhere by default.
    """
    if names is None:
        found = [(name, item) for name, items in program.items() for item in items]
    else:
        found = [pair for name in names for pair in reachable(program, name)]
    shapes = {
        name: {instruction.name: instruction.shape for instruction in instructions}
        for name, instructions in program.items()
    }
    return sorted(
        _product(instruction, shapes[name])
        for name, instruction in found
        if instruction.operation == "dot"
    )


def _product(dot: Instruction, shapes: dict[str, tuple[int, ...]]) -> Product:
    lhs = dot.rest.partition(",")[0].split("%")[-1].strip()
    contracting, batch = (_indices(f"lhs_{kind}_dims", dot.rest) for kind in _KINDS)
    return Product.of(shapes[lhs], math.prod(dot.shape), contracting, batch)


def _indices(field: str, text: str) -> list[int]:
    found = re.search(field + r"=\{([\d,]*)\}", text)
    return [int(i) for i in found.group(1).split(",") if i] if found else []


def _dims(text: str) -> tuple[int, ...]:
    found = _SHAPE.search(text)
    return tuple(int(i) for i in found.group(1).split(",") if i) if found else ()


def flops(found: Iterable[Product]) -> int:
    """Returns the multiplications and additions of products."""
    return sum(product.flops for product in found)


def operations(program: Program, name: str) -> collections.Counter[str]:
    """Returns how often each operation occurs in a computation and all it calls."""
    return collections.Counter(item.operation for _, item in reachable(program, name))


def traced_products(jaxpr: Any) -> list[Product]:
    """Returns the matrix products of a trace, as `jax.make_jaxpr` returns it, sorted.

    Left out are products that no result depends on, and outer products, over one term each, for
    XLA multiplies elementwise there. A product that occurs twice counts twice, though XLA would
    compute it once.
    """
    from jax.interpreters import partial_eval  # a peer's environment may have no JAX

    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return sorted(product for product in _all_products(needed) if product.k > 1)


def _all_products(jaxpr: Any) -> list[Product]:
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracting, _), (batch, _) = equation.params["dimension_numbers"]
            lhs, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            found.append(Product.of(lhs, math.prod(out), contracting, batch))
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found.extend(_all_products(inner))
        if equation.params.get("branches_platforms"):  # the same products for every platform
            found.extend(_all_products(equation.params["branches"][-1].jaxpr))
    return found
