"""A recipe is checked whole before anything runs, and every mistake is one line that names the field."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcommons import recipe
from lmcommons.errors import RequestError

BASE = "name: sample\ndata:\n  sources:\n    - type: python-docs\n"
RECIPES = Path(__file__).parent.parent / "recipes"
FILES = sorted(RECIPES.glob("**/*.yaml"))


def lmc(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lmc"), *arguments], capture_output=True, text=True, check=False, timeout=240
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_recipe_of_the_project_is_right(file):
    assert recipe.load_any(file).name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model:\n  hiden_size: 3\n", "r.yaml:6: model.hiden_size: unknown field; did you mean 'hidden_size'?"),
        ("modle: {}\n", "r.yaml:5: modle: unknown field; did you mean 'model'?"),
        ("model:\n  hidden_size: wide\n", "r.yaml:6: model.hidden_size: input should be a valid integer, not 'wide'"),
        ("tokenizer:\n  vocab_size: 12\n", "tokenizer.vocab_size: input should be greater than or equal to 258"),
        (
            "model:\n  hidden_size: 100\n  num_attention_heads: 3\n  num_key_value_heads: 3\n",
            "r.yaml:5: model: hidden_size 100 is not divisible by num_attention_heads 3",
        ),
        ("model:\n  num_key_value_heads: 3\n", "num_attention_heads 4 is not divisible by num_key_value_heads 3"),
        ("pretraining:\n  context_length: 4096\n", "context_length 4096 is above model.max_position_embeddings 1024"),
        ("model:\n  max_position_embeddings: 0\n", "must be at least 1 for kind decoder, not 0"),
        (
            "model:\n  family: xlnet\n  num_key_value_heads: 4\n  max_position_embeddings: 128\n",
            "kind permutation reads any number of tokens: leave max_position_embeddings out",
        ),
        ("pretraining: {batch_size: 6, gradient_accumulation: 4}\n", "batch_size 6 is not divisible"),
        (
            "pretraining: {objective: {name: masked-lm}}\n",
            "masked-lm does not train model.kind decoder (model.family llama); causal-lm does",
        ),
        (
            "model: {family: t5}\npretraining: {objective: {name: causal-lm}}\n",
            "model.kind encoder-decoder (model.family t5); span-corruption or sequence-to-sequence does",
        ),
        ("pretraining:\n  objective: {name: mlm}\n", "r.yaml:6: pretraining.objective: input tag 'mlm'"),
        (
            "model: {family: bert}\npretraining:\n  objective:\n    name: masked-lm\n    masked_fraction: 2.0\n",
            "r.yaml:9: pretraining.objective.masked_fraction: input should be less than 1, not 2.0",
        ),
        (
            "model: {family: bert, type_vocab_size: 0}\n"
            "pretraining: {objective: {name: masked-lm, next_sentence: true}}\n",
            "pretraining.objective.next_sentence needs model.type_vocab_size 2 or more",
        ),
        (
            "model: {family: bert}\n"
            "pretraining: {context_length: 5, objective: {name: masked-lm, next_sentence: true}}\n",
            "pretraining.context_length 5 has no room for two segments; give 6 or more",
        ),
        (
            "model: {family: t5}\n"
            "pretraining: {context_length: 1024, objective: {name: span-corruption, mean_span_length: 1.0}}\n",
            "154 spans in a row and only 99 sentinels for them; raise mean_span_length",
        ),
        ("model: {family: bert}\ntokenizer: {chat_template: true}\n", "tokenizer.chat_template is for decoders"),
        (
            "model: {family: bert}\npublishing: {benchmark: true}\n",
            "publishing.benchmark needs a decoder, and model.kind is encoder",
        ),
        ("pretraining: {steps: 50}\n", "schedule.warmup_steps 50 is not below steps 50"),
        ("pretraining: {precision: fp8}\n", "pretraining.precision: input should be 'auto', 'bfloat16' or 'float32'"),
        ("seed: 1\nseed: 2\n", "r.yaml:6: not valid YAML: field 'seed' stands twice"),
        ("seed: [1\n", "r.yaml:6: not valid YAML"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(text, expected):
    with pytest.raises(RequestError) as caught:
        recipe.parse(BASE + text, "r.yaml")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\ndata:\n  sources:\n    - type: python-doc\n", "r.yaml:4: data.sources.0: input tag 'python-doc'"),
        ("name: a\ndata:\n  sources: []\n", "r.yaml:3: data.sources: list should have at least 1 item"),
        ("name: a\ndata:\n  sources:\n    - {type: text, paths: [b]}\n", "data.sources.0.licence: is required"),
        ("name: ../a\ndata:\n  sources:\n    - type: python-docs\n", "r.yaml:1: name: string should match pattern"),
        (BASE.replace("sources", "split: {test: 0.6, validation: 0.5}\n  sources"), "nothing is left to train on"),
        (BASE.replace("sources", "split: {test: 0.0}\n  sources"), "validation and test must be above 0"),
        ("", "a recipe is a mapping of fields"),
        ("- name", "a recipe is a mapping of fields"),
        ("name: !!python/object/apply:os.system [ls]", "not valid YAML: could not determine a constructor"),
    ],
)
def test_a_recipe_that_cannot_be_one_is_refused_in_one_line(text, expected):
    with pytest.raises(RequestError) as caught:
        recipe.parse(text, "r.yaml")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_recipe_or_one_line(text):
    try:
        recipe.parse(text)
    except RequestError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right


@pytest.mark.parametrize(
    ("family", "objective"),
    [
        ("llama", "causal-lm"),
        ("gpt2", "causal-lm"),
        ("bert", "masked-lm"),
        ("t5", "span-corruption"),
        ("marian", "sequence-to-sequence"),
        ("xlnet", "permutation-lm"),
    ],
)
def test_a_family_has_an_objective_of_its_own(family, objective):
    parsed = recipe.parse(f"{BASE}model:\n  family: {family}\n")
    assert parsed.pretraining.objective.name == objective
    assert recipe.parse(recipe.dump(parsed)) == parsed


def test_numbers_in_scientific_notation_are_numbers():
    parsed = recipe.parse(BASE + "pretraining: {optimizer: {learning_rate: 3e-4}}\n")
    assert parsed.pretraining.optimizer.learning_rate == 3e-4


def test_the_resolved_recipe_reads_back_equal():
    parsed = recipe.parse(BASE + "model: {rope_theta: 1e6}\n")
    assert recipe.parse(recipe.dump(parsed)) == parsed


def test_the_parameter_count_is_the_models_own():
    from lmcommons.model import Decoder, ModelConfig

    for tied in (True, False):
        model = recipe.ModelRecipe(hidden_size=64, intermediate_size=96, num_hidden_layers=2, tie_word_embeddings=tied)
        config = ModelConfig(**model.model_dump(), vocab_size=300, bos_token_id=0, eos_token_id=0)
        assert model.parameters(300) == sum(weight.numel() for weight in Decoder(config).parameters())


def test_a_batch_that_cannot_fit_into_memory_is_refused(tmp_path):
    file = tmp_path / "big.yaml"
    file.write_text(BASE + "pretraining: {batch_size: 100000000}\n")
    result = lmc("recipe", "check", file)
    assert result.returncode == 2
    assert "pretraining.batch_size: a step needs at least" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_check_says_what_the_recipe_would_do():
    result = lmc("recipe", "check", RECIPES / "quickstart.yaml")
    assert result.returncode == 0
    assert "parameters" in result.stdout
    assert "training tokens" in result.stdout


def test_check_says_what_a_fine_tuning_recipe_would_do():
    result = lmc("recipe", "check", RECIPES / "finetuning" / "spam.yaml")
    assert "sequence-classification" in result.stdout
    assert result.returncode == 0


def test_check_of_an_absent_file_is_a_wrong_request():
    result = lmc("recipe", "check", "absent.yaml")
    assert (result.returncode, result.stderr) == (2, "lmc: absent.yaml: no such recipe file\n")


def test_fine_tuning_recipes_have_a_schema_too():
    schema = json.loads(lmc("recipe", "schema", "--finetuning").stdout)
    assert set(schema["properties"]) == set(recipe.TaskRecipe.model_fields)


def test_the_schema_names_every_field_for_editors():
    schema = json.loads(lmc("recipe", "schema").stdout)
    assert set(schema["properties"]) == set(recipe.Recipe.model_fields)
    assert schema["$defs"]["ModelRecipe"]["additionalProperties"] is False


def test_the_command_starts_without_loading_torch():
    code = (
        "import sys; from lmcommons.cli.main import run; run(['recipe', 'check', sys.argv[1]]); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code, RECIPES / "quickstart.yaml"], check=True, capture_output=True, timeout=240
    )


@pytest.mark.parametrize("family", recipe.FAMILIES)
def test_less_memory_is_needed_at_least_where_less_is_kept(family):
    settings = ("{loss: plain}", "{loss: fused}", "{loss: fused, gradient_checkpointing: true}")
    texts = [f"{BASE}model: {{family: {family}}}\npretraining: {fields}\n" for fields in settings]
    plain, fused, recomputed = (recipe.parse(text).training_memory() for text in texts)
    assert plain > fused > recomputed
