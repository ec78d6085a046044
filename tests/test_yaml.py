"""YAML: what is typed is taken, and what surprises is refused."""

import pytest
from test_config import resolve

from snn.base import yamls
from snn.base.errors import UserError


class TestYAML:
    def test_what_is_written_is_read_back(self):
        """Also strings that only one of the two versions of YAML takes for something else."""
        texts = ["08", "1e-05", "010", "1_000", "no", "1:30", "2026-11-29", "null", "~", "true", ".5", "a: b", "", "x"]
        value = {"texts": texts, "numbers": [8, 1e-05, -3, 0.5, float("inf"), True, None]}
        assert yamls.load(yamls.dump(value), "x") == value

    @pytest.mark.parametrize(
        "typed, value",
        [("010", 10), ("1:30", "1:30"), ("no", "no"), ("2026-13-45", "2026-13-45"), ("1e-4", 1e-4), (".5", 0.5),
         ("-3", -3), ("true", True), ("", None), ("~", None), ("[1, x]", [1, "x"]), ("0x10", "0x10"),
         ("1_000", "1_000")],
    )  # fmt: skip
    def test_what_is_typed_is_taken(self, typed, value):
        assert yamls.load(f"a: {typed}", "x") == {"a": value}

    @pytest.mark.parametrize(
        "text, message",
        [
            ("a: 1\nb: 2\na: 3", "x, line 3: not YAML: key a is there twice"),
            ("a: &b 1\nc: *b", r"x, line 2: not YAML: alias \*b is not supported"),
            ("a: !!int abc", "x: not YAML: ValueError"),
            ("a: " + "[" * 3000, "x: not YAML: RecursionError"),
            ("1: 2", "key 1 is not a name"),
            ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
            ("a: !!timestamp 2026-13-45", "month must be in 1..12"),
        ],
    )
    def test_what_is_refused(self, text, message):
        with pytest.raises(UserError, match=message) as error:
            yamls.load(text, "x")
        assert "\n" not in str(error.value) and len(str(error.value)) < 400

    def test_aliases_do_not_fill_the_memory(self, tmp_path):
        file = tmp_path / "bomb.yaml"
        file.write_text("a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi")))  # fmt: skip
        with pytest.raises(UserError, match="alias"):
            resolve(config_file=file)

    def test_a_hash_in_a_value_that_is_set(self):
        assert resolve("checkpoint_base_path=run #2")[0]["checkpoint_base_path"] == "run #2"
        assert resolve("checkpoint_base_path='run #2' # two")[0]["checkpoint_base_path"] == "run #2"

    def test_long_values_are_cut_in_messages(self):
        with pytest.raises(UserError) as error:
            resolve("precision=" + "x" * 5000)
        assert len(str(error.value)) < 400
