"""Our models and foreign ones do the same for fine-tuning: packed or padded, written greedily or by beams."""

import pytest
import torch
from tiny_tasks import write_model

from lmcommons.finetuning import batches, foreign, own
from lmcommons.finetuning.encoding import Example
from lmcommons.finetuning.network import Writing
from lmcommons.model import load

CPU = torch.device("cpu")
TEXTS = [[5, 6, 7, 8, 9], [20, 21, 22], [31, 32, 33, 34, 35, 36, 37]]
EXAMPLES = [Example(row, text[:-1], text[1:]) for row, text in enumerate(TEXTS)]


def both(directory, task):
    """The same model as ours and as a module of transformers."""
    labels = ["a", "b"] if task == "sequence-classification" else []
    ours = own.for_task(load(directory), task, labels, pad_token_id=0, pretrained=True)
    theirs = foreign.load(directory, task, labels, pad_token_id=0, pretrained=True)
    for network in (ours, theirs):
        network.module.eval()
    return ours, theirs


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_texts_in_one_row_have_the_loss_that_they_have_alone(tmp_path, family):
    write_model(tmp_path, family)
    for network in both(tmp_path, "translation"):
        assert network.packs
        with torch.no_grad():
            packed = network.loss(batches.collate([EXAMPLES], 0, CPU), 0.0)
            padded = network.loss(batches.collate([[each] for each in EXAMPLES], 0, CPU), 0.0)
            alone = sum(network.loss(batches.collate([[each]], 0, CPU), 0.0) for each in EXAMPLES)
        torch.testing.assert_close(packed, alone, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(padded, alone, atol=1e-4, rtol=1e-5)


def test_a_model_that_would_mix_packed_texts_is_given_them_apart(tmp_path):
    write_model(tmp_path, "opt")
    network = foreign.load(tmp_path, "translation", [], pad_token_id=0, pretrained=True)
    network.module.eval()
    with torch.no_grad():
        together = network.loss(batches.collate([EXAMPLES] if network.packs else [[e] for e in EXAMPLES], 0, CPU), 0.0)
        alone = sum(network.loss(batches.collate([[each]], 0, CPU), 0.0) for each in EXAMPLES)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_losses_and_smoothed_losses_agree(tmp_path, family):
    write_model(tmp_path, family)
    examples = EXAMPLES
    if family == "t5":
        examples = [Example(0, [5, 6, 7, 1], [8, 9, 1], target_tokens=[0, 8, 9]),
                    Example(1, [5, 1], [3, 1], target_tokens=[0, 3])]  # fmt: skip
    batch = batches.collate([[each] for each in examples], 0, CPU)
    ours, theirs = both(tmp_path, "translation")
    with torch.no_grad():
        torch.testing.assert_close(ours.token_losses(batch), theirs.token_losses(batch), atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(ours.loss(batch, 0.1), theirs.loss(batch, 0.1), atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_the_same_is_written(tmp_path, family, beams):
    write_model(tmp_path, family)
    how = Writing(frozenset([1]), max_new_tokens=6, num_beams=beams)
    prompts = [[5, 6, 7, 1], [9, 1], [12, 13, 1]] if family == "t5" else [[5, 6, 7], [9], [12, 13]]
    ours, theirs = both(tmp_path, "translation")
    assert ours.write(prompts, how) == theirs.write(prompts, how)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_padding_changes_no_logits_of_a_class(tmp_path, family):
    write_model(tmp_path, family)
    examples = [Example(row, text, [0], token_types=[0] * len(text)) for row, text in enumerate(TEXTS)]
    for network in both(tmp_path, "sequence-classification"):
        with torch.no_grad():
            together = network.task_logits(batches.collate([[each] for each in examples], 0, CPU))
            alone = torch.cat([network.task_logits(batches.collate([[each]], 0, CPU)) for each in examples])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_wide_rows_of_compiled_steps_lose_nothing(tmp_path):
    write_model(tmp_path, "llama")
    network, _ = both(tmp_path, "translation")
    wide = batches.collate([EXAMPLES], 0, CPU, widths=batches.widths(50), by_token=True)
    assert batches.widths(50) == [16, 32, 50]
    assert wide.tokens.shape == wide.targets.shape == (1, 16)
    with torch.no_grad():
        plain = network.loss(batches.collate([EXAMPLES], 0, CPU), 0.0)
        torch.testing.assert_close(network.loss(wide, 0.0), plain, atol=1e-4, rtol=1e-5)


def test_both_sides_of_wide_rows_are_of_one_width(tmp_path):
    write_model(tmp_path, "t5")
    network, _ = both(tmp_path, "translation")
    pair = Example(0, [5, 6, 1], [*[5, 6] * 9, 1], target_tokens=[0, *[5, 6] * 9])
    wide = batches.collate([[pair]], 0, CPU, widths=batches.widths(50), by_token=True)
    assert wide.tokens.shape == wide.target_tokens.shape == wide.targets.shape == (1, 32)
    with torch.no_grad():
        plain = network.loss(batches.collate([[pair]], 0, CPU), 0.0)
        torch.testing.assert_close(network.loss(wide, 0.0), plain, atol=1e-4, rtol=1e-5)
