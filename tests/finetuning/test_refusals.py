"""What cannot be fine-tuned is refused in one line, by the real command, before anything is trained."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_run import lmc
from tiny_tasks import chats, colours, questions, reviews, tagged, write_model, write_recipe, write_rows, write_splits

from lmcommons import recipe
from lmcommons.errors import CommandError, RequestError
from lmcommons.finetuning import run


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    return {name: write_model(home / name, name) for name in ("bert", "distilbert", "llama", "gpt2", "opt", "t5")}


def refusal(home: Path, task: str, error: type[CommandError] = RequestError, **fields: object) -> str:
    with pytest.raises(error) as caught:
        run(write_recipe(home, task, **fields), home / "runs")
    message = str(caught.value)
    assert "\n" not in message
    assert not list((home / "runs").rglob("model"))
    return message


def with_model(home: Path, source: Path) -> Path:
    return shutil.copytree(source, home / "model")


@pytest.mark.parametrize(
    ("family", "task", "rows", "message"),
    [
        ("bert", "translation", colours(8, 0), "needs a decoder or encoder-decoder with a head for language modelling"),
        ("distilbert", "translation", colours(8, 0), "and this is DistilBertForMaskedLM"),
        ("t5", "chat", chats(8, 0), "task chat needs a decoder with a head for language modelling"),
        ("t5", "sequence-classification", reviews(8, 0), "use task text-to-text"),
        ("t5", "question-answering", questions(8, 0), "use task text-to-text"),
        ("bert", "chat", chats(8, 0), "and this is an encoder for language-modelling"),
    ],
)
def test_a_model_of_the_wrong_kind_is_named_with_the_right_one(models, tmp_path, family, task, rows, message):
    with_model(tmp_path, models[family])
    write_splits(tmp_path / "data", rows)
    assert message in refusal(tmp_path, task)


def test_a_model_of_another_task_has_no_head_for_language_modelling(models, tmp_path):
    with_model(tmp_path, models["llama"])
    write_splits(tmp_path / "data", reviews(40, 0))
    classifier = run(write_recipe(tmp_path, "sequence-classification", epochs=1), tmp_path / "runs")
    shutil.copytree(Path(classifier["directory"], "model"), tmp_path / "classifier")
    shutil.rmtree(tmp_path / "runs")
    write_splits(tmp_path / "data", colours(8, 0))
    assert "a decoder for sequence-classification" in refusal(tmp_path, "translation", model="classifier")


def test_a_chat_needs_a_template(models, tmp_path):
    with_model(tmp_path, models["gpt2"])
    configuration = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    configuration.pop("chat_template")
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(configuration))
    write_splits(tmp_path / "data", chats(8, 0))
    assert "no chat template; a recipe's tokenizer.chat_template makes one" in refusal(tmp_path, "chat")


def test_a_label_of_validation_that_train_lacks_is_named(models, tmp_path):
    with_model(tmp_path, models["llama"])
    write_splits(tmp_path / "data", reviews(16, 0))
    write_rows(tmp_path / "data", "validation", [*reviews(3, 1), {"text": "a", "label": "mixed"}])
    assert "validation.jsonl: row 4: label 'mixed' is not one of bad, good" in refusal(
        tmp_path, "sequence-classification"
    )


def test_labels_out_of_the_recipes_range_are_named(models, tmp_path):
    with_model(tmp_path, models["llama"])
    write_splits(tmp_path / "data", [{"text": f"a {n}", "label": n % 4} for n in range(16)])
    message = refusal(tmp_path, "sequence-classification", labels=["0", "1", "2"])
    assert "train.jsonl: row 4: label '3' is not one of 0, 1, 2" in message
    assert "no row has the label '9'" in refusal(tmp_path, "sequence-classification", labels=["0", "9"])


def test_one_class_is_no_classification(models, tmp_path):
    with_model(tmp_path, models["llama"])
    write_splits(tmp_path / "data", [{"text": f"a {n}", "label": "same"} for n in range(16)])
    assert "every label is 'same'; a classification needs at least two classes" in refusal(
        tmp_path, "sequence-classification"
    )


def test_words_and_labels_of_different_number_are_named(models, tmp_path):
    with_model(tmp_path, models["llama"])
    write_splits(tmp_path / "data", [*tagged(15, 0), {"tokens": ["a", "b"], "labels": ["O"]}])
    assert "test.jsonl: row 4: 2 tokens and 1 labels" in refusal(tmp_path, "token-classification")


def test_a_tokenizer_of_another_model_is_refused(models, tmp_path):
    with_model(tmp_path, models["llama"])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(models["bert"] / name, tmp_path / "model" / name)
    write_splits(tmp_path / "data", reviews(16, 0))
    assert "tokens and the model only 300" in refusal(tmp_path, "sequence-classification")


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_weights_that_are_not_numbers_are_refused(models, tmp_path, family):
    with_model(tmp_path, models[family])
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("weight"))
    tensors[name].view(-1)[7] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    write_splits(tmp_path / "data", reviews(16, 0))
    assert "values that are not numbers" in refusal(tmp_path, "sequence-classification", CommandError)


def test_pickles_are_not_read(models, tmp_path):
    for name in ("llama", "opt"):
        model = shutil.copytree(models[name], tmp_path / name)
        torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
        (model / "model.safetensors").unlink()
        write_splits(tmp_path / "data", reviews(16, 0))
        assert "safetensors" in refusal(tmp_path, "sequence-classification", model=name)


def test_remote_code_is_not_run(models, tmp_path):
    model = with_model(tmp_path, models["opt"])
    fields = json.loads((model / "config.json").read_text())
    fields |= {"model_type": "own", "architectures": ["Own"], "auto_map": {"AutoConfig": "code.Config"}}
    (model / "config.json").write_text(json.dumps(fields))
    (model / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    write_splits(tmp_path / "data", reviews(16, 0))
    assert str(model) in refusal(tmp_path, "sequence-classification")
    assert not (tmp_path / "ran").exists()


def test_a_row_longer_than_the_positions_is_cut_and_counted(models, tmp_path, capsys):
    with_model(tmp_path, models["gpt2"])
    write_splits(tmp_path / "data", [*reviews(39, 0), {"text": "long " * 400, "label": "good"}])
    found = run(write_recipe(tmp_path, "sequence-classification", max_length=500, epochs=1), tmp_path / "runs")
    said = capsys.readouterr().err
    assert "max_length 500 is above the model's 128 positions, which are used" in said
    assert "test: 1 of 10 rows are longer than max_length, and cut" in said
    assert found["report"]["rows"]["test"]["cut"] == 1


def test_a_rate_that_is_too_high_says_so_and_writes_no_model(models, tmp_path):
    with_model(tmp_path, models["gpt2"])
    write_splits(tmp_path / "data", colours(40, 0))
    fields = {"epochs": 40, "patience": 40, "gradient_clip": 1e30, "optimizer": {"learning_rate": 1e18}}
    message = refusal(tmp_path, "translation", CommandError, **fields)
    assert "lower finetuning.optimizer.learning_rate" in message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "summarise"}, "finetuning.task: input should be 'sequence-classification'"),
        ({"method": {"name": "frozen"}, "task": "chat"}, "method frozen trains the head of a task, and task chat"),
        ({"method": {"name": "lora", "rnk": 2}}, "finetuning.method.rnk: unknown field; did you mean 'rank'?"),
        ({"data": {"path": "data", "columns": {"txt": "x"}}}, "data.columns: 'txt' is no column of sequence"),
        ({"prompt": "x {source}"}, "prompt must hold {source} once, and is only for translation and text-to-text"),
        ({"labels": ["one"]}, "labels must be at least two different names"),
        ({"batch_size": 10, "gradient_accumulation": 3}, "batch_size 10 is not divisible by gradient_accumulation 3"),
    ],
)  # fmt: skip
def test_a_wrong_recipe_is_one_line_with_its_place(tmp_path, fields, message):
    path = write_recipe(tmp_path, **{"task": "sequence-classification", **fields})
    with pytest.raises(RequestError) as caught:
        recipe.load_task(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_the_command_ends_with_one_line_and_exit_code_2(models, tmp_path):
    with_model(tmp_path, models["bert"])
    write_splits(tmp_path / "data", colours(8, 0))
    done = lmc("finetune", write_recipe(tmp_path, "translation"), "--out", tmp_path / "runs")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("lmc: ")
    assert "Traceback" not in done.stderr


def test_the_two_kinds_of_recipe_are_told_apart(tmp_path):
    path = write_recipe(tmp_path, "chat")
    assert "run it with `lmc finetune`" in lmc("run", path).stderr
    (tmp_path / "other.yaml").write_text("name: x\ndata: {sources: [{type: python-docs}]}\n")
    assert "has a section `finetuning`" in lmc("finetune", tmp_path / "other.yaml").stderr


@pytest.mark.parametrize("where", ["nowhere", "a/b/c"])
def test_a_model_or_data_that_is_nowhere_is_named(models, tmp_path, where):
    with_model(tmp_path, models["llama"])
    write_splits(tmp_path / "data", reviews(8, 0))
    assert where in refusal(tmp_path, "sequence-classification", model=where)
    assert where in refusal(tmp_path, "sequence-classification", data={"path": where})
