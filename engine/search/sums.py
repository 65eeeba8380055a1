"""Sums of products over rows of codes, as many rows at once as a register has lanes.

Left to a loop, each row ends in adding the lanes of a register up, which takes as long as the
products themselves. Here the registers of 16 rows (8 without AVX-512) are added pairwise until
one is left, whose lanes are the sums of the rows: about 3 instructions a sum in place of 9.
Products and their first addition are the x86 instruction pmaddwd; on other processors LLVM
chooses.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
#: The function that multiplies and adds neighbours, by feature and rows at once.
_PRODUCTS = {("+avx512bw", 16): "llvm.x86.avx512.pmaddw.d.512",
             ("+avx2", 8): "llvm.x86.avx2.pmadd.wd"}


def _features() -> list[str]:
    return cpu_target.target_context.codegen().magic_tuple()[2].split(",")


#: Rows that `row_sums` takes.
AT_ONCE = 16 if "+avx512bw" in _features() else 8


@intrinsic(prefer_literal=True)
def row_sums(typing: Any, codes: types.Type, row: types.Type, directions: types.Type,
             p: types.Type, centre: types.Type, fine: types.Type, dots: types.Type,
             squares: types.Type, at: types.Type, dims: types.Type, second: types.Type) -> Any:
    """Sums of `AT_ONCE` rows from `row` on; k = code - 128. For compiled code only.

    Fills dots[at:] with sum code * directions[p] (modulo 2^32) and squares[at:] with sum k * k
    where `second` is 1, with sum k * (fine * k - centre) where it is 2. Arrays are C-contiguous:
    codes uint8 (n, dims), directions int16 (m, dims), centre int16 (dims,), fine int32, dots and
    squares int32. `dims` and `second` are constants.
    """
    width, kind = dims.literal_value, second.literal_value

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        def pointer(which: int, offset: ir.Value) -> ir.Value:
            array = context.make_array(signature.args[which])(context, builder, args[which])
            return builder.gep(array.data, [offset])

        first = pointer(0, builder.mul(args[1], _I64(width)))
        direction = pointer(2, builder.mul(args[3], _I64(width)))
        pieces = range(0, width, 2 * AT_ONCE)
        weights = [_numbers(builder, direction, j, width - j, _I16) for j in pieces]
        middles = [_numbers(builder, pointer(4, _I64(0)), j, width - j, _I16) for j in pieces]
        middle_code = ir.Constant(ir.VectorType(_I16, 2 * AT_ONCE), [128] * 2 * AT_ONCE)
        nothing = ir.Constant(ir.VectorType(_I32, AT_ONCE), None)
        sums: tuple[list, list] = [], []
        for i in range(AT_ONCE):
            dot = square = shift = nothing
            for j, weight, middle in zip(pieces, weights, middles, strict=True):
                code = _numbers(builder, first, i * width + j, width - j, _I8)
                dot = builder.add(dot, _products(builder, code, weight))
                if kind:
                    own = builder.sub(code, middle_code)
                    square = builder.add(square, _products(builder, own, own))
                if kind == 2:
                    shift = builder.add(shift, _products(builder, own, middle))
            if kind == 2:
                square = builder.sub(builder.mul(square, _all(builder, args[5])), shift)
            sums[0].append(dot)
            sums[1].append(square)
        for which, vectors in ((6, sums[0]), *([(7, sums[1])] if kind else [])):
            total = _folded(builder, vectors)
            target = builder.bitcast(pointer(which, args[8]), total.type.as_pointer())
            builder.store(total, target, align=4)
        return context.get_dummy_value()

    return types.void(codes, types.intp, directions, types.intp, centre, types.int32, dots,
                      squares, types.intp, dims, second), emit


def _numbers(builder: ir.IRBuilder, pointer: ir.Value, offset: int, left: int, kind: ir.Type
             ) -> ir.Value:
    """The next 2 `AT_ONCE` numbers as 16 bits; past the `left` ones there are codes of 128.

    A code of 128 is k = 0, and the weights there are 0, so that both sums stay as they are.
    """
    count, width = min(left, 2 * AT_ONCE), 2 * AT_ONCE
    place = builder.bitcast(builder.gep(pointer, [_I64(offset)]),
                            ir.VectorType(kind, count).as_pointer())
    found = builder.load(place, align=1)
    if kind is _I8:
        found = builder.zext(found, ir.VectorType(_I16, count))
    if count == width:
        return found
    fill = ir.Constant(found.type, [128 if kind is _I8 else 0] * count)
    lanes = [i if i < count else count for i in range(width)]
    return builder.shuffle_vector(found, fill, ir.Constant(ir.VectorType(_I32, width), lanes))


def _all(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """A vector of `AT_ONCE` times a number."""
    vector = ir.Constant(ir.VectorType(_I32, AT_ONCE), ir.Undefined)
    for lane in range(AT_ONCE):
        vector = builder.insert_element(vector, number, _I32(lane))
    return vector


def _products(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """2 n products of 16-bit numbers, neighbours added: n numbers of 32 bits."""
    long = ir.VectorType(_I32, AT_ONCE)
    name = next((function for (feature, rows), function in _PRODUCTS.items()
                 if rows == AT_ONCE and feature in _features()), None)
    if name is None:
        wide = ir.VectorType(_I32, 2 * AT_ONCE)
        product = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
        even, odd = _halves(AT_ONCE)
        return builder.add(builder.shuffle_vector(product, product, even),
                           builder.shuffle_vector(product, product, odd))
    function = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(long, [a.type, b.type]), name)
    return builder.call(function, [a, b])


def _folded(builder: ir.IRBuilder, vectors: list[ir.Value]) -> ir.Value:
    """n vectors of n lanes to one: lane i is the sum of the lanes of vector i."""
    even, odd = _halves(len(vectors))
    while len(vectors) > 1:
        vectors = [builder.add(builder.shuffle_vector(a, b, even),
                               builder.shuffle_vector(a, b, odd))
                   for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]


def _halves(n: int) -> list[ir.Constant]:
    """The even and the odd lanes of 2 n, as orders of a shuffle."""
    return [ir.Constant(ir.VectorType(_I32, n), list(range(k, 2 * n, 2))) for k in (0, 1)]
