"""Texts of classes: templates, files of descriptions, and what is refused of them."""

import json

import pytest
import torch
from named_classes import pair_network

from adaptune.data.class_words import class_texts, read_descriptions, text_ids, with_words
from adaptune.networks.inputs import TextInput


def written(folder, said, name="texts.json"):
    file = folder / name
    file.write_bytes(said if isinstance(said, bytes) else json.dumps(said).encode())
    return file


def test_texts_of_a_file_stand_by_themselves_or_in_templates(tmp_path):
    file = written(tmp_path, {"Cat": ["a beak?", "fur"], "dog": "barks", "emu": ["runs"]})
    assert class_texts(["cat", "dog"], [str(file)]) == [["a beak?", "fur"], ["barks"]]
    found = class_texts(["cat"], ["{}, {text}", str(file), "{text} of a {}"])
    assert found == [["cat, a beak?", "cat, fur", "a beak? of a cat", "fur of a cat"]]


def test_a_csv_has_a_line_for_each_text(tmp_path):
    file = written(tmp_path, b'text,class\nfur,cat\n"a, b",dog\nwhiskers,cat\n', "texts.csv")
    assert read_descriptions(file) == {"cat": ["fur", "whiskers"], "dog": ["a, b"]}


def test_names_and_texts_with_braces_stay_as_they_are(tmp_path):
    file = written(tmp_path, {"a{text}b": ["{} {0.__class__}", "x"]})
    assert class_texts(["a{text}b"], [str(file)])[0] == ["{} {0.__class__}", "x"]


def test_a_text_that_is_said_twice_counts_once(tmp_path):
    file = written(tmp_path, {"cat": ["fur", "fur"]})
    assert class_texts(["cat"], [str(file)]) == [["fur"]]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"[1, 2]",
        b"{}",
        b'{"cat": []}',
        b'{"cat": [" "]}',
        b'{"cat": [1]}',
        b'{"cat": {"a": "b"}}',
        b'{"cat": null}',
        b"NaN",
    ],
)
def test_a_file_that_is_none_is_refused_in_words(said, tmp_path):
    with pytest.raises(ValueError, match="expected a JSON object"):
        class_texts(["cat"], [str(written(tmp_path, said))])


@pytest.mark.parametrize("said", [b"a,b\n1,2\n", b"class,text\ncat\n", b"class,text\n", b"\x00"])
def test_a_table_that_is_none_is_refused_in_words(said, tmp_path):
    with pytest.raises(ValueError, match=r"texts\.csv"):
        class_texts(["cat"], [str(written(tmp_path, said, "texts.csv"))])


def test_a_file_of_too_many_bytes_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("adaptune.data.class_words.MOST_BYTES", 10)
    with pytest.raises(ValueError, match="MB"):
        read_descriptions(written(tmp_path, {"cat": ["some fur"]}))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "templates"),
        (["a photo"], "neither a file nor a template"),
        (["a {name}"], "no template"),
        (["{0.__class__}"], "no template"),
        (["{text}"], "takes a file"),
    ],
)
def test_words_that_make_no_text_are_refused(words, reason):
    with pytest.raises(ValueError, match=reason):
        class_texts(["cat"], words)


def test_what_a_file_and_templates_cannot_be_together_is_said(tmp_path):
    file = str(written(tmp_path, {"cat": ["fur"]}))
    with pytest.raises(ValueError, match="no place for the texts"):
        class_texts(["cat"], ["a {}", file])
    with pytest.raises(ValueError, match="one file at most"):
        class_texts(["cat"], [file, file])
    with pytest.raises(ValueError, match="has no text of the classes emu"):
        class_texts(["cat", "emu"], [file])


def test_ids_are_as_long_as_the_longest_text():
    look = TextInput(64)
    ids = text_ids(look, ["one", "one two three", "one two"])
    assert ids.tolist()[0][1:] == [0] * 4
    assert ids.shape == (3, 5)
    assert text_ids(TextInput(8), ["word " * 50]).shape == (1, 8)


def test_a_network_that_meets_texts_gets_classes_of_words():
    net = pair_network().eval()
    x = torch.randn(2, 3, 32, 32)
    image = net.head.embed(net.body(x))
    found = with_words(net, ["a", "b"], class_texts(["a", "b"], ["my {}"]))
    text = found.partners(text_ids(found.joint.look, ["my a", "my b"]))
    expected = found.joint.warmth * image @ text.T
    assert torch.allclose(found(x), expected, atol=1e-5)
    assert found.classes == ("a", "b")


def test_a_network_without_a_tower_is_refused_in_words():
    from adaptune.networks.network import Network
    from adaptune.networks.pairs import joint_head
    from adaptune.networks.text import text_backbone

    net = Network.from_architecture(text_backbone("ngrams"), ["a"])
    with pytest.raises(ValueError, match="--task matching"):
        with_words(net, ["a"], [["a"]])
    net.head = joint_head(net.width, net.preprocess)
    with pytest.raises(ValueError, match="one body reads both"):
        with_words(net, ["a"], [["a"]])
