"""compare_golden.py OLD NEW: are golden files that were made anew what they were?

Files must be equal byte for byte. Tensors may differ in the last digits, because another processor
sums in another order: same names, types and shapes, and |difference| <= 1e-5 of the largest element.
"""
import pathlib
import sys

from safetensors.torch import load_file

LIMIT = 1e-5


def tensors_differ(old, new):
    a, b = load_file(old), load_file(new)
    if a.keys() != b.keys():
        return "names differ: " + ", ".join(sorted(a.keys() ^ b.keys()))
    for name, x in a.items():
        y = b[name]
        if x.dtype != y.dtype or x.shape != y.shape:
            return f"'{name}' has another type or shape"
        if x.numel() and x.is_floating_point():
            x, y = x.double(), y.double()
            worst = ((x - y).abs().max() / x.abs().max().clamp(min=1e-30)).item()
            if not worst <= LIMIT:
                return f"'{name}' differs by {worst:.2e} of its largest element"
        elif x.numel() and not bool((x == y).all()):
            return f"'{name}' differs"
    return None


def files(folder):
    return {p.relative_to(folder) for p in folder.rglob("*")
            if p.is_file() and p.suffix != ".pyc" and p.name != ".DS_Store"}


def main():
    old, new = map(pathlib.Path, sys.argv[1:])
    names, bad, close = sorted(files(old) | files(new)), 0, 0
    for name in names:
        if not (old / name).exists() or not (new / name).exists():
            problem = "is only in " + ("the new ones" if (new / name).exists() else "the old ones")
        elif (old / name).read_bytes() == (new / name).read_bytes():
            problem = None
        elif name.suffix == ".safetensors":
            problem = tensors_differ(old / name, new / name)
            close += problem is None
        else:
            problem = "differs"
        if problem:
            bad += 1
            print(f"{name}: {problem}", file=sys.stderr)
    print(f"{len(names)} golden files, {close} equal within {LIMIT}, {bad} different")
    return 1 if bad or not names else 0


sys.exit(main())
