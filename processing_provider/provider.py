"""The provider: what the toolbox, the modeler and `qgis_process` see of Earthprint."""

from __future__ import annotations

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithms.apply_head import ApplyHead
from .algorithms.assess_accuracy import AssessAccuracy
from .algorithms.build_stack import BuildStack
from .algorithms.change_detection import ChangeDetection
from .algorithms.cluster_embeddings import ClusterEmbeddings
from .algorithms.crop_classification import CropClassification
from .algorithms.doctor import Doctor
from .algorithms.encode import Encode
from .algorithms.flood_detection import FloodDetection
from .algorithms.forecast import Forecast
from .algorithms.import_checkpoint import ImportCheckpoint
from .algorithms.import_embeddings import ImportEmbeddings
from .algorithms.import_model import ImportModel
from .algorithms.land_cover_segmentation import LandCoverSegmentation
from .algorithms.pretrain import Pretrain
from .algorithms.sampling_design import SamplingDesign
from .algorithms.similarity_search import SimilaritySearch
from .algorithms.suggest_samples import SuggestSamples
from .algorithms.train_head import TrainHead
from .algorithms.visualize_embeddings import VisualizeEmbeddings
from .identity import icon, icon_path, metadata

ALGORITHMS = (BuildStack, Encode, CropClassification, LandCoverSegmentation,
              ClusterEmbeddings, TrainHead, ApplyHead,
              VisualizeEmbeddings, ChangeDetection, ImportEmbeddings, SimilaritySearch,
              SamplingDesign, AssessAccuracy, Forecast, ImportCheckpoint, ImportModel,
              FloodDetection, SuggestSamples, Pretrain, Doctor)


class EarthprintProvider(QgsProcessingProvider):
    """Registers the algorithms; they are listed whether or not the engine is set up."""

    def id(self) -> str:
        """Prefix of all algorithm ids; public, never changed."""
        return "earthprint"

    def name(self) -> str:
        """Name in the toolbox."""
        return "Earthprint"

    def longName(self) -> str:
        """Name with version."""
        return "Earthprint {}".format(metadata()["version"])

    def versionInfo(self) -> str:
        """Version of the plugin."""
        return metadata()["version"]

    def icon(self) -> QIcon:
        """Icon for the window's lightness."""
        return icon("earthprint")

    def svgIconPath(self) -> str:
        """Path of the same icon."""
        return icon_path("earthprint")

    def loadAlgorithms(self) -> None:
        """Register one instance of each algorithm."""
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())
