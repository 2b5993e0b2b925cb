"""Models go to disk and come back the same; a folder that cannot be read says why."""

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import anymae
from anymae import hub
from anymae.errors import FolderError, UserInputError
from anymae.hub import load, model_card, save
from anymae.model import MaskedAutoencoder
from anymae.predictor import Ensemble, Predictor
from anymae.task import TaskConfig
from models import pretrained, strings
from runs import encoder, tuned
from tiny import tiny_config, tiny_inputs


@pytest.fixture
def model() -> MaskedAutoencoder:
    return MaskedAutoencoder(tiny_config()).eval()


@pytest.fixture
def folder(model: MaskedAutoencoder, tmp_path: Path) -> Path:
    return anymae.save(model, tmp_path / "run")


@pytest.mark.parametrize("kind", ["bytes", "values", "table", "image"])
@pytest.mark.parametrize("encoder", ["transformer", "perceiver"])
def test_a_saved_model_comes_back_the_same(kind: str, encoder: str, tmp_path: Path) -> None:
    model = MaskedAutoencoder(tiny_config(kind, encoder))
    model.data = {"roles": {"kind": kind}}
    loaded = anymae.load(anymae.save(model, tmp_path / "run"))
    assert isinstance(loaded, MaskedAutoencoder)
    assert not loaded.training
    assert loaded.config == model.config
    assert loaded.data == model.data
    inputs = tiny_inputs(model.config, 3)
    assert torch.equal(loaded.encode(inputs).latents, model.eval().encode(inputs).latents)


def test_loading_leaves_torchs_random_state_alone(folder: Path) -> None:
    packed = hub.pack(anymae.load(folder))
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    anymae.load(folder)
    hub.unpack(packed)
    assert torch.equal(torch.rand(3), expected)


def test_a_folder_holds_safetensors_json_and_a_card_only(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    card = (folder / "README.md").read_text()
    assert "anymae.load" in card
    assert "transformer" in card
    # What was done to weights that are merely saved is not known.
    assert card.count("## How to cite") == 1 and "## Methods" not in card
    cited = card.partition("## How to cite")[2]
    assert "@inproceedings{xie2024selfguided," in cited and "2402.14789" in cited


def test_the_card_of_a_fine_tuned_model_is_about_its_task() -> None:
    model = tuned(None).model
    card = model_card(model)
    assert "# y from bytes inputs" in card and "| task | regression |" in card
    assert "anymae.predict(model, rows)" in card
    assert "| masking |" not in card and "Pretrained" not in card
    assert "regression]" in card and "feature-extraction" not in card
    assert "| masking | guided, ratio" in model_card(encoder())


def test_saving_overwrites_nothing(model: MaskedAutoencoder, folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FolderError, match="holds something already"):
        anymae.save(model, folder)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_saving_where_there_is_no_room_leaves_nothing(
    model: MaskedAutoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(hub, "write_tensors", full)
        with pytest.raises(FolderError, match=r"could not be written \(No space left on device\)"):
            anymae.save(model, tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []
    assert anymae.load(anymae.save(model, tmp_path / "m")).config == model.config


def test_saving_to_a_file_is_refused(model: MaskedAutoencoder, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(FolderError, match="is a file"):
        anymae.save(model, tmp_path / "taken")


def test_a_missing_folder_is_not_looked_for_on_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("network"))
    with pytest.raises(FolderError, match="hf://owner/name"):
        anymae.load("owner/name")


def test_a_hub_name_is_fetched_with_its_revision(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def fetch(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.update(repository=repository, revision=revision, patterns=allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert isinstance(anymae.load("hf://owner/name@v2"), MaskedAutoencoder)
    assert asked["repository"] == "owner/name"
    assert asked["revision"] == "v2"
    assert all(name.endswith((".json", ".safetensors", ".md")) for name in asked["patterns"])


def test_a_hub_name_that_cannot_be_fetched_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fetch(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("offline\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(FolderError, match=r"could not be fetched .*\(offline\)"):
        anymae.load("hf://owner/name")


def test_a_download_that_breaks_off_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadError(Exception):
        """As httpx has it: no error of the system, and none of the hub's."""

    def fetch(*_: object, **__: object) -> str:
        raise ReadError("peer closed connection")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(FolderError, match=r"could not be fetched .*\(peer closed connection\)"):
        anymae.load("hf://owner/name")


class Hub:
    """Stands for the hub's interface, and remembers what it was asked for."""

    def __init__(
        self, asked: dict[str, object], error: Exception | None = None, *, public: bool = False
    ) -> None:
        self.asked, self.error, self.public = asked, error, public

    def create_repo(self, name: str, *, private: bool | None, exist_ok: bool) -> None:
        if self.error is not None:
            raise self.error
        self.asked.update(name=name, private=private, exist_ok=exist_ok)

    def repo_info(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(private=not self.public)

    def upload_folder(self, **asked: object) -> SimpleNamespace:
        self.asked.update(asked)
        return SimpleNamespace(commit_url="https://huggingface.co/owner/name/commit/1")


def test_a_push_uploads_the_model_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "run.yaml").write_text("data: {path: /home/me/secret.csv}")
    asked: dict[str, object] = {}
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: Hub(asked))
    pushed = hub.push(folder, "hf://owner/name", private=True)
    assert pushed.address.endswith("/commit/1")
    assert pushed.files == hub.published_files(folder)
    assert asked["name"] == asked["repo_id"] == "owner/name"
    assert asked["private"] is True
    assert asked["allow_patterns"] == ["config.json", "model.safetensors", "README.md"]
    assert "data.json" in asked["delete_patterns"], "one that another model left is not this one's"  # type: ignore[operator]
    sizes = hub.published_files(folder)
    assert sizes["config.json"] == (folder / "config.json").stat().st_size
    hub.push(folder, "hf://owner/name")
    assert asked["private"] is None, "what is there stays as private as it is"


def test_what_is_to_be_private_is_not_uploaded_to_a_public_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: Hub(asked, public=True))
    with pytest.raises(FolderError, match="there already, and public"):
        hub.push(folder, "hf://owner/name", private=True)
    assert "folder_path" not in asked
    hub.push(folder, "hf://owner/name")
    assert asked["folder_path"] == folder


def test_a_push_that_cannot_be_is_one_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.errors import LocalTokenNotFoundError

    for name in ("owner/name", "hf://name", "hf://owner/name@main", "hf://a/b/c", "hf:///b"):
        with pytest.raises(UserInputError, match="hf://owner/name"):
            hub.push(folder, name)
    with pytest.raises(FolderError, match="there is no folder"):
        hub.push(tmp_path / "absent", "hf://owner/name")
    error = LocalTokenNotFoundError("no token\nand more")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: Hub({}, error))
    with pytest.raises(FolderError, match=r"\(no token\).* log in"):
        hub.push(folder, "hf://owner/name")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FolderError, match="has not finished"):
        hub.push(folder, "hf://owner/name")


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


DAMAGES = {
    "no run": (lambda f: (f / "config.json").unlink(), "is no run"),
    "unfinished": (lambda f: (f / "model.safetensors").unlink(), "has not finished"),
    "broken json": (lambda f: (f / "config.json").write_text("{"), "no JSON"),
    "json list": (lambda f: (f / "config.json").write_text("[]"), "no JSON object"),
    "foreign config": (lambda f: edit_config(f, format_version=None), "anymae convert"),
    "future": (lambda f: edit_config(f, format_version=999), "upgrade anymae"),
    "unknown key": (lambda f: edit_config(f, encodr={}), "encodr"),
    "cut weights": (
        lambda f: (f / "model.safetensors").write_bytes(
            (f / "model.safetensors").read_bytes()[:-100]
        ),
        "no safetensors file",
    ),
    "pickled weights": (
        lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04K\x01."),
        "no safetensors file",
    ),
    "other sizes": (
        lambda f: edit_config(f, **other_sizes()),
        "does not fit",
    ),
    "a number for a section": (lambda f: edit_config(f, decoder=5), "decoder"),
    "a word for a task": (lambda f: edit_config(f, task="x"), "task"),
    "broken data": (lambda f: (f / "data.json").write_text("nonsense"), "no JSON"),
}


def other_sizes() -> dict[str, object]:
    config = tiny_config().model_dump(mode="json")
    return config | {"input": config["input"] | {"length": 40}}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_named_in_one_sentence(name: str, folder: Path) -> None:
    damage, expected = DAMAGES[name]
    damage(folder)
    with pytest.raises(FolderError, match=expected) as caught:
        anymae.load(folder)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_model_is_unpacked_for_evaluation() -> None:
    assert not hub.unpack(hub.pack(pretrained(strings()).train())).training


def test_members_of_a_loaded_ensemble_know_their_data(tmp_path: Path) -> None:
    encoder, task = pretrained(strings()), TaskConfig(type="multilabel", targets=("a",))
    members = [Predictor.from_pretrained(encoder, task) for _ in range(2)]
    again = load(save(Ensemble(members), tmp_path / "model"))
    assert isinstance(again, Ensemble) and again.data is not None
    assert [part.data for part in again.predictors()] == [again.data] * 2
