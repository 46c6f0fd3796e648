"""How much anonymous memory loading a 124M model takes, against the size of its weights.

    python tests/benchmarks/load_memory.py > assets/benchmarks/load_memory.txt

Writes the model in each format to a temporary folder (3 GB), loads each one in a process of its
own and samples RssAnon of /proc/self/status there (Linux): before, at the highest and after.
Exits with 1 if the highest is more than 1.3 times the weights in the precision asked for.
"""

import json
import subprocess
import sys
import tempfile
import threading
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
LIMIT = 1.3
MIB = 2**20


def rss_anon() -> int:
    """Bytes of this process's memory that no file stands behind."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon: this needs Linux")


def measure(path: str, precision: str) -> dict[str, int]:
    """Growth of RssAnon while and after loading, and the weights' own size, in bytes."""
    from gpt import load_model
    from gpt.accounting.memory import weight_bytes

    samples, done = [rss_anon()], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            samples.append(rss_anon())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        model = load_model(path, precision=precision)
    finally:
        done.set()
        watcher.join()
    return {
        "weights": weight_bytes(model.cfg, precision),
        "after": rss_anon() - samples[0],
        "highest": max(samples) - samples[0],
    }


def make_folders(folder: Path) -> list[tuple[str, Path]]:
    """GPT-2 small's shape with random weights, in every format that is read."""
    import torch

    from gpt import GPTConfig, GPTModel, export_model
    from gpt.checkpoints import save_model

    model = GPTModel(GPTConfig(qkv_bias=True, tie_weights=True)).eval()
    torch.save(model.state_dict(), folder / "book.pth")
    return [
        ("ours, float32", save_model(model, folder / "float32", "float32")),
        ("ours, float16", save_model(model, folder / "float16", "float16")),
        ("Hugging Face, float32", export_model(model, folder / "exported")),
        (".pth, float32", folder / "book.pth"),
    ]


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(measure(*sys.argv[2:4])))
        return 0
    from gpt.checkpoints.precision_record import processor
    from gpt.engine import PRECISIONS

    worst = 0.0
    print(f"RssAnon of loading GPT-2 small's shape, {date.today()}, {processor()}")
    print(f"{'on disk':24}{'loaded as':12}{'weights':>12}{'highest':>12}{'after':>12}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in make_folders(Path(folder)):
            for precision in PRECISIONS:
                command = [sys.executable, __file__, "--child", str(path), precision]
                made = subprocess.run(command, capture_output=True, text=True, check=True)
                found = json.loads(made.stdout)
                sizes = "".join(
                    f"{found[key] / MIB:>8,.1f} MiB" for key in ("weights", "highest", "after")
                )
                ratio = found["highest"] / found["weights"]
                worst = max(worst, ratio)
                print(f"{name:24}{precision:12}{sizes}{ratio:>8.2f}", flush=True)
    print(f"at most {worst:.2f} times the weights; {LIMIT} is allowed")
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
