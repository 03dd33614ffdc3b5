"""`lmc import` and `lmc export`."""

import json

import pytest
import torch
from llama_models import write_llama
from safetensors.torch import load_file

from lmcommons.cli.main import run


def test_import_and_export_give_back_the_same_weights(tmp_path, capsys):
    write_llama(tmp_path / "theirs")
    assert run(["import", str(tmp_path / "theirs"), "--out", str(tmp_path / "ours")]) == 0
    assert "LlamaForCausalLM of the family llama" in capsys.readouterr().out
    assert run(["export", str(tmp_path / "ours"), "--out", str(tmp_path / "back"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    first, last = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "back"))
    assert first.keys() == last.keys()
    assert all(torch.equal(first[name], last[name]) for name in first)
    assert printed == {
        "out": str(tmp_path / "back"),
        "family": "llama",
        "architecture": "LlamaForCausalLM",
        "parameters": sum(tensor.numel() for tensor in first.values()),
        "dtype": "float32",
    }


def test_export_writes_the_precision_that_is_asked_for(tmp_path):
    write_llama(tmp_path / "a")
    assert run(["export", str(tmp_path / "a"), "--out", str(tmp_path / "b"), "--dtype", "bfloat16"]) == 0
    assert {tensor.dtype for tensor in load_file(tmp_path / "b" / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "b" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dtype", "q8_0"], "--dtype q8_0: transformers is written as one of stored, float32, bfloat16, float16"),
        (
            ["--format", "ctranslate2", "--dtype", "bf16"],
            "--dtype bf16: ctranslate2 is written as one of float32, int8",
        ),
        (["--format", "onnx"], "'onnx' is not one of"),
    ],
)
def test_a_precision_or_format_that_is_not_written_is_one_line(tmp_path, capsys, options, message):
    assert run(["export", str(tmp_path), "--out", str(tmp_path / "b"), *options]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_a_model_that_is_not_there_is_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for command in ("import", "export"):
        assert run([command, str(tmp_path / "gone"), "--out", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_directory_that_is_there_is_not_overwritten(tmp_path, capsys):
    write_llama(tmp_path)
    assert run(["export", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
