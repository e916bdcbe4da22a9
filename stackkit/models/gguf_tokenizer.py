"""The tokenizer and the chat template that a GGUF file carries.

The package ``tokenizers`` does the merging; here its parts are put together from the file's lists.
Source: github.com/ggml-org/ggml, docs/gguf.md, section on tokenizers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from stackkit.models.gguf_file import GGUFFile

CONTROL, OWN = 3, 4  # token types that are recognised whole: control tokens, the user's own
_ENDS = ("eos", "eot", "eom")  # end of the text, of a turn, of a message: generation stops there


class GGUFTokenizer:
    """A byte-level BPE tokenizer.

    A text gives its own ids alone, so that it may be encoded in pieces; a file that wants a token
    before each text (``add_bos_token``) is refused.

    Raises:
        ValueError: when the file's tokenizer is of another kind, or its lists do not fit together.
    """

    def __init__(self, file: GGUFFile) -> None:
        from tokenizers import AddedToken, Tokenizer, models

        get = file.values.get
        kind, cutting = get("tokenizer.ggml.model"), get("tokenizer.ggml.pre", "default")
        if kind != "gpt2" or cutting not in _CUTTINGS:
            raise ValueError(
                f"{file.path.name} has a tokenizer of the kind {kind!r}, cut as {cutting!r}; "
                f"known is 'gpt2' with {', '.join(map(repr, _CUTTINGS))}."
            )
        if get("tokenizer.ggml.add_bos_token"):
            raise ValueError(
                f"{file.path.name} wants a token before each text (add_bos_token), "
                "which this tokenizer does not write."
            )
        self._tokens = file.texts("tokenizer.ggml.tokens")
        merges = [tuple(pair.split(" ")) for pair in file.texts("tokenizer.ggml.merges")]
        vocabulary = {token: id for id, token in enumerate(self._tokens)}
        for pair in merges:
            if len(pair) != 2 or not vocabulary.keys() >= {*pair, "".join(pair)}:
                raise ValueError(
                    f"{file.path.name} has the merge {' '.join(pair)!r}; two tokens that make a "
                    "third are needed."
                )
        self._tokenizer = Tokenizer(models.BPE(vocabulary, merges))
        self._tokenizer.pre_tokenizer = _cutter(cutting)
        types = get("tokenizer.ggml.token_type", [])
        if not isinstance(types, list) or len(types) > len(self._tokens):
            raise ValueError(
                f"{file.path.name} has a tokenizer.ggml.token_type that is no list of "
                f"{len(self._tokens)} numbers, one a token."
            )
        self._whole = {id for id, type in enumerate(types) if type in (CONTROL, OWN)}
        self._tokenizer.add_special_tokens(
            [AddedToken(self._tokens[id], normalized=False, special=True) for id in self._whole]
        )
        self.vocab_size = len(self._tokens)
        named = {name: get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", *_ENDS)}
        named = {name: id for name, id in named.items() if id is not None}
        for name, id in named.items():
            if type(id) is not int or not 0 <= id < self.vocab_size:
                raise ValueError(
                    f"{file.path.name} says {id!r} as its tokenizer.ggml.{name}_token_id; "
                    f"an id below {self.vocab_size} is needed."
                )
        self.end_ids = frozenset(id for name, id in named.items() if name in _ENDS)
        self._named = {f"{name}_token": self._tokens[id] for name, id in named.items()}
        self._template = get("tokenizer.chat_template")

    def encode(self, text: str) -> list[int]:
        """Ids of a text; control tokens such as ``<|im_start|>`` in it are recognised."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are no whole character become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token_bytes(self, id: int) -> bytes:
        """What one token stands for; one that is not written in the alphabet, itself."""
        token = self._tokens[id]
        if id in self._whole or not self._byte_of.keys() >= {*token}:  # "[PAD 1]" fills a place
            return token.encode()
        return bytes(self._byte_of[character] for character in token)

    def apply_chat_template(
        self, messages: Sequence[dict[str, str]], *, add_generation_prompt: bool = True
    ) -> str:
        """A conversation as the model was taught to read it, ready for ``encode``.

        Args:
            messages: ``{"role": "user", "content": "..."}`` and so on.
            add_generation_prompt: end where the model is to answer.

        Raises:
            ValueError: when the file has no template, or its template refuses, is broken or writes
                a name that it is not given.
        """
        if not self._template:
            raise ValueError("The file has no chat template: write the prompt out yourself.")
        from stackkit.models.loading import require

        require("jinja2")
        from jinja2 import Undefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        class Absent(Undefined):  # may be asked for, as ``message.tool_calls`` is, but not written
            __str__ = Undefined._fail_with_undefined_error

        def refuse(reason: str) -> None:
            raise ValueError(reason)

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=Absent,
            extensions=["jinja2.ext.loopcontrols"],
        )
        given = {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
        given |= {"tools": None, "documents": None, "raise_exception": refuse}  # as transformers
        try:
            return environment.from_string(self._template).render(given | self._named)
        except Exception as error:  # a template is a program: it can fail in any way
            raise ValueError(
                f"The file's chat template cannot write this conversation: {error}"
            ) from error

    @cached_property
    def _byte_of(self) -> dict[str, int]:
        """GPT-2's alphabet: printable bytes as themselves, the rest from code point 256 on."""
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        rest = [byte for byte in range(256) if byte not in plain]
        return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}


# How text is cut before merging, by the name that GGUF files use.
_CUTTINGS = ("smollm", "gpt-2")


def _cutter(name: str) -> Any:
    from tokenizers import pre_tokenizers as cut

    words = cut.ByteLevel(add_prefix_space=False, use_regex=True)
    return cut.Sequence([cut.Digits(individual_digits=True), words]) if name == "smollm" else words
