"""What of a text a tokenizer does not know, for every kind of tokenizer model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from steering.model.vocabulary import Unknown, unknown_tokens
from tests.experiments.command_line import command

ROOT = Path(__file__).resolve().parents[2]
BUILT_IN = ROOT / "steering" / "builtin" / "base" / "tokenizer.json"


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    found = unknown_tokens(tokenizer, text)
    return [] if found is None else list(found.pieces)


def words() -> Tokenizer:
    return Tokenizer.from_file(str(BUILT_IN))


def unigram(fallback: bool = False) -> Tokenizer:
    vocabulary = [("<unk>", 0.0), ("▁", -1.0), ("a", -1.0), ("b", -1.0)]
    made = Tokenizer(models.Unigram(vocabulary, 0, fallback))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made


def byte_level() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def test_words_that_are_not_in_the_vocabulary_are_named_in_order() -> None:
    found = unknown_tokens(words(), "start 3 ; hello ; 你好 ?")
    assert found == Unknown(("hello", "你好"), 7)
    assert "2 of the 7 pieces" in found.sentence("m") and "'hello', '你好'" in found.sentence("m")
    assert pieces(words(), "start 3 ; + 4 ; ?") == []
    assert pieces(words(), "  \n ") == []
    assert pieces(words(), "<unk> start") == ["<unk>"]


def test_letters_that_are_not_in_the_vocabulary_are_named() -> None:
    assert pieces(unigram(), "a b c a") == ["c"]
    wordpiece = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    wordpiece.pre_tokenizer = pre_tokenizers.Whitespace()
    assert pieces(wordpiece, "ab cd a") == ["cd"]


def test_bytes_know_everything() -> None:
    assert pieces(byte_level(), "Hello 你好 🙂 \n\t") == []


def test_what_a_tokenizer_drops_without_a_word_is_named() -> None:
    bpe = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    bpe.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert pieces(bpe, "a xyz b") == ["xyz"]
    dropping = byte_level()
    dropping.normalizer = normalizers.Replace(Regex("[^ -~]"), "")
    assert pieces(dropping, "a é b") == ["é"]


def test_a_long_list_is_cut_and_counted() -> None:
    text = " ".join(f"w{i}" for i in range(40)) + " " + "x" * 500
    said = unknown_tokens(words(), text).sentence("m")
    assert "41 of the 41 pieces" in said
    assert said.count("'w") == 8 and "'w7' and 33 more. It" in said


@pytest.mark.parametrize(("text", "warned"), [("start 3 ; hello", True), ("start 3 ; + 4 ; ?", False)])
def test_the_command_line_warns_on_standard_error_and_leaves_the_data_alone(
    text: str, warned: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = command(monkeypatch, capsys)("generate", "--prompt", text, "--max-new-tokens", "2", "--json")
    assert code == 0, err
    assert ("Warning: builtin:base does not know 1 of the 4 pieces of this text: 'hello'" in err) is warned
    assert out.startswith("[")


def test_it_needs_no_model_library() -> None:
    code = "import sys, steering.model.vocabulary; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
