"""What a step should take on an H100, from the bytes it moves and the products it multiplies: an estimate, no figure.

    python benchmarks/_gpu_model.py

Bytes that come from memory and bytes that come from the cache (L2) are counted for each part of the step in bfloat16
with float32 masters, and divided by rates that such parts are known to reach. That an access hits the cache is assumed
where what is read, a few columns of all rows at a time, is smaller than it. Left out: all time in which the device
waits, and rows that are read again.
"""

from __future__ import annotations

from gpu_step import SIZES

PRODUCTS, MEMORY, CACHE = 680e12, 2.9e12, 5.0e12  # operations and bytes a second that are reached
LAUNCH = 2e-6  # seconds of a launch within a recording, however little it does
LAUNCHES = 35


def parts(rows: int, width: int, latents: int, k: int) -> dict[str, float]:
    """Seconds of each part."""
    pairs, parameters, product = rows * k, 2 * width * latents, 2 * rows * width * latents / PRODUCTS
    sort = pairs * 2 * (4 + 8) * 4  # four passes over keys and numbers, read and written
    return {
        "encoder's product": product,
        "selection": 2 * rows * latents / MEMORY,
        "decoding": max(2 * pairs * width / CACHE, 2 * latents * width / MEMORY) + 16 * rows * width / MEMORY,
        "order by latent": sort / MEMORY,
        "gradients": 2 * (2 * pairs * width) / CACHE + 4 * parameters / MEMORY,
        "bias of the decoder": (4 * width * latents + 4 * rows * width) / MEMORY,
        "update": (4 + 12 + 12 + 2) * parameters / MEMORY,
        "launches": LAUNCH * LAUNCHES,
    }


def dense(rows: int, width: int, latents: int, k: int) -> float:
    """Seconds of the dense step: five products, and passes over codes and parameters that are there if all is ideal."""
    parameters, codes = 2 * width * latents, 2 * rows * latents
    # top-k reads bfloat16 two bits at a time; zeros, scatter, its gradient, and the gradient of the selection
    passes = 8 + 1 + 2 + 2
    # casts to bfloat16, gradients and their casts, projection, norm and clipping, Adam, unit norms
    eager = parameters * (6 + 6 + 10 + 8 + 28 + 8)
    return 5 * 2 * rows * width * latents / PRODUCTS + (passes * codes + eager) / MEMORY


def sparsify(rows: int, width: int, latents: int, k: int) -> float:
    """Seconds of sparsify's step, likewise, as its source has it: it writes a row for every pair, then adds them up."""
    pairs, parameters, codes = rows * k, 2 * width * latents, 2 * rows * latents
    passes = 2 + 8 + 1  # ReLU, top-k
    every_pair = 4 * pairs * width * 4  # written, read, and added to what is read and written again
    eager = parameters * (6 + 4 + 10 + 28 + 8)  # casts, zeros, projection, Adam, unit norms
    gathered = 3 * 2 * pairs * width / CACHE
    return 2 * rows * width * latents / PRODUCTS + gathered + (passes * codes + every_pair + eager) / MEMORY


def main() -> None:
    """Print the estimates."""
    print("Estimates for an H100, in ms; nothing here was measured.")
    for size in SIZES:
        each = parts(*size)
        total = sum(each.values())
        print(f"\nbatch {size[0]}, d {size[1]}, {size[2]} latents, k {size[3]}")
        for name, seconds in each.items():
            print(f"  {name:22}{1000 * seconds:8.3f}")
        print(f"  {'step':22}{1000 * total:8.3f}   {each[next(iter(each))] / total:.0%} of it is the product")
        for name, other in {"dense step": dense(*size), "sparsify's step": sparsify(*size)}.items():
            print(f"  {name:22}{1000 * other:8.3f}   {other / total:.1f}x")


if __name__ == "__main__":
    main()
