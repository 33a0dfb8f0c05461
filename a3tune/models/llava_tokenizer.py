"""A LLaVA checkpoint's SentencePiece model as a fast tokenizer that knows the image token.

LLaVA tokenizes the text before and after an image separately, and SentencePiece puts a space before each piece of
text. Here the image is a token of its own, and the same space is put before whatever follows it, so that one pass
gives the same ids.
"""

from __future__ import annotations

from pathlib import Path

from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from a3tune.errors import ModelError
from a3tune.models.checkpoint_folder import read_json

IMAGE_TOKEN = "<image>"

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_PROBES = ("Is there a mass in the left lung?", "two  spaces\nand a line", "µm, 5×7 cm², naïve 肺 🩻", "\ta tab")


def build_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The checkpoint's tokenizer with :data:`IMAGE_TOKEN` behind its last token.

    Args:
        folder: holds ``tokenizer.model`` (SentencePiece, byte-pair encoding with bytes for rare characters, as Llama
            and Mistral have) or ``tokenizer.json``, and what tokens were added in ``added_tokens.json`` or
            ``tokenizer_config.json``.

    Raises:
        ModelError: neither file is there, or it is damaged or of another kind.
    """
    if (folder / "tokenizer.model").is_file():
        tokenizer = _from_sentencepiece(folder / "tokenizer.model")
    elif (folder / "tokenizer.json").is_file():
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # The library raises this very class, whatever is wrong with the file.
            raise _damaged(folder / "tokenizer.json", error) from error
    else:
        raise ModelError(
            expected="tokenizer.model or tokenizer.json",
            got=f"{folder} without a tokenizer",
            remedy="Fetch the missing file into the folder",
        )
    added = _added_tokens(folder)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in [*added, IMAGE_TOKEN]])
    moved = [token for token, index in added.items() if tokenizer.token_to_id(token) != index]
    if moved:
        raise ModelError(
            expected="added tokens that follow the vocabulary without a gap",
            got=f"another number for {moved[0]!r}",
            remedy="Fetch the tokenizer's files again, they do not belong together",
        )
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    known = {name: token for name, token in names.items() if tokenizer.token_to_id(token) is not None}
    if "eos_token" not in known:
        raise ModelError(
            expected="a Llama or Mistral tokenizer, with the tokens <s> and </s>",
            got=f"{folder.name}'s tokenizer has no </s>",
            remedy="Choose a LLaVA checkpoint on a Llama, Vicuna or Mistral model",
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **known)


def _from_sentencepiece(file: Path) -> Tokenizer:
    try:
        source = SentencePieceProcessor(model_file=str(file))
    except (RuntimeError, OSError) as error:
        raise _damaged(file, error) from error
    pieces = [source.id_to_piece(index) for index in range(source.get_piece_size())]
    ids = {piece: index for index, piece in enumerate(pieces)}
    words = [
        index
        for index in range(len(pieces))
        if not (source.is_byte(index) or source.is_control(index) or source.is_unknown(index))
    ]
    # Byte-pair encoding joins the pair that makes the best scored piece first.
    joins = [
        (-source.get_score(index), ids[piece[:cut]], ids[piece[cut:]], piece[:cut], piece[cut:])
        for index in words
        for piece in [pieces[index]]
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    merges = [join[3:] for join in sorted(joins)]
    unknown = pieces[source.unk_id()]
    tokenizer = Tokenizer(BPE(vocab=ids, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    start, end = pieces[source.bos_id()], pieces[source.eos_id()]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in (unknown, start, end)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", pair=f"{start} $A {start} $B", special_tokens=[(start, ids[start])]
    )
    for text in _PROBES:
        if tokenizer.encode(text, add_special_tokens=False).ids != source.encode(text):
            raise ModelError(
                expected="a SentencePiece model of the kind that Llama and Mistral have",
                got=f"{file} splits {text!r} another way",
                remedy="Choose a LLaVA checkpoint on a Llama, Vicuna or Mistral model",
            )
    return tokenizer


def _added_tokens(folder: Path) -> dict[str, int]:
    """Tokens that the checkpoint names beside its vocabulary, with their ids, ascending."""
    added: dict[int, str] = {}
    if (folder / "added_tokens.json").is_file():
        added |= {int(index): token for token, index in read_json(folder / "added_tokens.json").items()}
    if (folder / "tokenizer_config.json").is_file():
        listed = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}
        added |= {int(index): entry["content"] for index, entry in listed.items()}
    return {added[index]: index for index in sorted(added) if added[index] != IMAGE_TOKEN}


def _damaged(file: Path, error: Exception) -> ModelError:
    return ModelError(
        expected=f"a tokenizer in {file.name}", got=f"a damaged file ({error})", remedy="Fetch the file again"
    )
