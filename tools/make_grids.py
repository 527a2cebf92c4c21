"""Prints src/tensor/grids.h: the codebooks of GGUF's IQ types, read out of PyPI gguf (0.19.0, MIT), gguf/quants.py.

    python tools/make_grids.py > src/tensor/grids.h

Needs: pip install numpy gguf. The books are figures, part of the format; the package has them as hexadecimal text, this
writes each row as one number.
"""
import importlib.metadata

import numpy as np
from gguf import quants

BOOKS = [
    ("iq1", quants.IQ1_S, "IQ1_S and IQ1_M"),
    ("iq2_xxs", quants.IQ2_XXS, "IQ2_XXS"),
    ("iq2_xs", quants.IQ2_XS, "IQ2_XS"),
    ("iq2_s", quants.IQ2_S, "IQ2_S"),
    ("iq3_xxs", quants.IQ3_XXS, "IQ3_XXS"),
    ("iq3_s", quants.IQ3_S, "IQ3_S"),
]

# What the C code computes instead of looking it up: bit 7 of a sign byte makes the number of set bits even.
assert list(quants.IQ2_XXS.ksigns) == [s | bin(s).count("1") % 2 << 7 for s in range(128)]
assert np.array_equal(quants.IQ1_M.grid_hex, quants.IQ1_S.grid_hex)

print(f"""/* Codebooks of GGUF's IQ types. Printed by tools/make_grids.py out of PyPI gguf {importlib.metadata.version("gguf")} (MIT), gguf/quants.py; not
 * edited by hand. A row of 8 holds element j in bits 2j and 2j + 1, a row of 4 in bits 4j to 4j + 2: the place in the
 * book's values. */
#ifndef FS_TENSOR_GRIDS_H
#define FS_TENSOR_GRIDS_H

#include <stdint.h>""")
for name, book, types in BOOKS:
    book.init_grid()
    values, grid = list(book.grid_map), book.grid.reshape(book.grid_shape)
    bits = 16 // book.grid_shape[1]
    rows = [sum(values.index(v) << bits * j for j, v in enumerate(row)) for row in grid]
    print(f"\n/* {types}: {len(rows)} rows of {book.grid_shape[1]}. */")
    print(f"static const int8_t {name}_values[{len(values)}] = {{ {', '.join(map(str, values))} }};")
    print(f"static const uint16_t {name}_rows[{len(rows)}] = {{")
    for i in range(0, len(rows), 14):
        print("    " + " ".join(f"0x{r:04x}," for r in rows[i : i + 14]))
    print("};")
print("\n#endif")
