"""Import Checkpoint: official weights in, an encoder out, on one page."""

from __future__ import annotations

import os
from typing import Any

from qgis.gui import QgsFileWidget
from qgis.PyQt.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGroupBox,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from ...engine import environment
from ...engine.client import EngineCancelled, EngineClient
from ...processing_provider.translation import tr
from .import_dialog import ImportDialog

_SUFFIXES = "*.pt *.pth *.ckpt *.safetensors *.bin"
JOB = "import_checkpoint"


class CheckpointDialog(ImportDialog):
    """Says what a file is, shows its terms where it has some, and imports it."""

    def __init__(self, client: EngineClient, parent: QWidget | None = None) -> None:
        super().__init__(tr("Import Checkpoint"), tr("&Import"), client, parent)
        self.resize(600, 320)
        self._found = None  # what the engine says about the file
        self.file = QgsFileWidget()
        self.file.setDialogTitle(tr("Official Weights of an Encoder"))
        self.file.setFilter("{} ({});;{} (*)".format(tr("Weights"), _SUFFIXES, tr("All files")))
        self.file.setStorageMode(QgsFileWidget.StorageMode.GetMultipleFiles)
        self.file.setToolTip(tr("The official file; all parts where it comes in several"))
        self.file.fileChanged.connect(self._change_file)
        self.what = QLabel()
        self.what.setWordWrap(True)
        self.what.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.MinimumExpanding)
        self.what.setTextInteractionFlags(self.sentence.textInteractionFlags())
        self.what.setAccessibleName(tr("What it is"))
        self.variant = QComboBox()
        self.variant.setToolTip(tr("The same weights can be used in several ways"))
        self.variant.activated.connect(self._look)
        self.name = QLineEdit()
        self.name.setToolTip(tr("As the forms will call the encoder"))
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow(tr("&File"), self.file)
        form.addRow(tr("What it is"), self.what)
        form.addRow(tr("&Used as"), self.variant)
        form.addRow(tr("&Name"), self.name)
        self._variant_label = form.labelForField(self.variant)
        layout = QVBoxLayout(self.page)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self._terms(), 20)
        layout.addStretch(1)  # takes the room while there are no terms
        self._show(None)

    def _terms(self) -> QGroupBox:
        self.terms = QPlainTextEdit()
        self.terms.setReadOnly(True)
        self.terms.setTabChangesFocus(True)
        self.terms.setAccessibleName(tr("Terms"))
        self.accept_terms = QCheckBox(tr("I have read the &terms and will keep to them"))
        self.accept_terms.toggled.connect(self.refresh)
        self.terms_group = QGroupBox(tr("Terms"))
        inside = QVBoxLayout(self.terms_group)
        inside.addWidget(self.terms)
        inside.addWidget(self.accept_terms)
        return self.terms_group

    def job(self) -> tuple[str, dict[str, Any]]:
        """The import of this file."""
        return JOB, {
            **self._chosen(),
            "name": self.name.text().strip(),
            "accept_licence": self.accept_terms.isChecked(),
        }

    def complete(self) -> bool:
        """The file is known, and its terms are accepted where it has some."""
        return self._found is not None and (
            not self._found["terms"] or self.accept_terms.isChecked()
        )

    def good_end(self, result: dict[str, Any]) -> str:
        """Name and proof."""
        return tr("{} is ready for all tools; largest difference to the reference {:.1g}.").format(
            result["name"], result["difference"]
        )

    def lacking(self) -> str:
        """The engine, or the part of it that imports weights."""
        lacking = super().lacking()
        if lacking or environment.can_import():
            return lacking
        return tr(
            "Importing official weights needs PyTorch, which the engine lacks. Choose Set Up…, "
            "tick Import official weights and press Install."
        )

    def _files(self) -> list[str]:
        return [path for path in QgsFileWidget.splitFilePaths(self.file.filePath().strip()) if path]

    def _chosen(self) -> dict[str, Any]:
        first, *parts = self._files()
        return {"file": first, "parts": parts, "variant": self.variant.currentData() or ""}

    def _change_file(self, _text: str) -> None:
        self._show(None)
        self.forget()
        files = self._files()
        absent = [path for path in files if not os.path.isfile(path)]
        if absent:
            self.say(tr("{} was not found. Choose the file again.").format(absent[0]))
        elif files:
            self._look()
        else:
            self.say("")

    def _look(self, _index: int = 0) -> None:
        """Ask the engine what the file is, used as it is chosen."""
        self.ask(JOB, {**self._chosen(), "look": True}, self._take)
        self.say(tr("Reading {}…").format(os.path.basename(self._files()[0])))

    def _take(self, found: Any, failure: Any) -> None:
        if failure is not None:
            self._show(None)
            self.say("" if isinstance(failure, EngineCancelled) else str(failure), failure)
        else:
            self._show(found)
            self.say("")

    def _show(self, found: dict[str, Any] | None) -> None:
        self._found = found
        if found is None:
            self.what.setText(tr(
                "Weights of TESSERA, Galileo, Presto, AnySat, MAESTRO, SatDINO, SkySense, TiMo or "
                "SkySense V2, as their authors publish them."
            ))
            self.variant.clear()
        else:
            licence = tr("Licence of the weights: {}").format(found["card"]["licence_weights"])
            self.what.setText("{}\n{}".format(found["what"], licence))
            if not self.variant.count():
                for variant in found["variants"]:
                    self.variant.addItem(variant, variant)
        self.name.setPlaceholderText(found["card"]["name"] if found is not None else "")
        several = self.variant.count() > 1
        self.variant.setVisible(several)
        self._variant_label.setVisible(several)
        terms = found["terms"] if found is not None else ""
        self.terms.setPlainText(terms)
        self.terms_group.setVisible(bool(terms))
        self.accept_terms.setChecked(False)
        self.refresh()
