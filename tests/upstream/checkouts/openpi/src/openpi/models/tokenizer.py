"""The tokenizer: its file has to be there; here a token is a character."""

import numpy as np

import openpi.shared.download as download


class PaligemmaTokenizer:
    def __init__(self, max_len: int = 48) -> None:
        self._max_len = max_len
        path = download.maybe_download("gs://big_vision/paligemma_tokenizer.model", gs={"token": "anon"})
        path.read_bytes()

    def tokenize(self, prompt: str, state: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        text = prompt.strip().replace("_", " ").replace("\n", " ")
        if state is not None:
            bins = np.digitize(state, bins=np.linspace(-1, 1, 257)[:-1]) - 1
            text = f"Task: {text}, State: {' '.join(map(str, bins))};\nAction: "
        tokens = [ord(each) for each in text][: self._max_len]
        mask = np.arange(self._max_len) < len(tokens)
        return np.asarray(tokens + [0] * (self._max_len - len(tokens))), mask
