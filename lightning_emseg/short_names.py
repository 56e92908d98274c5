"""Classes that a configuration can name without their module, ``class_path: UNet``, because they are imported here."""

from data_modules.base import Mosaic
from data_modules.cremi import CREMI
from data_modules.isbi2012 import ISBI2012
from data_modules.labelled_tiles import LabelledTiles
from data_modules.synthesize import SyntheticMosaics
from data_modules.tiles import Tiles
from data_modules.urisc import URISC
from data_modules.views import TwoViews
from lightning_emseg.attribution.integrated_gradients import IntegratedGradients
from lightning_emseg.callbacks import AttributionFields, ErrorMaps
from lightning_emseg.callbacks.knn_probe import KNNProbe
from lightning_emseg.callbacks.linear_probe import LinearProbe
from lightning_emseg.metrics.boundary.cleft_distances import CleftDistances
from lightning_emseg.metrics.boundary.distances import SurfaceDistances
from lightning_emseg.metrics.boundary.skeleton_recall import SkeletonRecall
from lightning_emseg.metrics.boundary.tolerant_f1 import TolerantF1
from lightning_emseg.metrics.boundary.urisc_score import UriscF1
from lightning_emseg.metrics.segmentation.information import VariationOfInformation, VInfo
from lightning_emseg.metrics.segmentation.labelled_iou import LabelledObjectsIoU
from lightning_emseg.metrics.segmentation.rand import AdaptedRand, VRand
from lightning_emseg.modules.casenet import CASENet
from lightning_emseg.modules.cleftnet import CleftNet
from lightning_emseg.modules.linknet import LinkNet
from lightning_emseg.modules.moco import MoCo
from lightning_emseg.modules.smp_model import SmpModel
from lightning_emseg.modules.tile_classifier import TileClassifier
from lightning_emseg.modules.unet import UNet
from lightning_emseg.modules.unet_transfer import UNetTransfer
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from lightning_emseg.modules.volume_baselines import AttnUNet3D, ResUNet3D, SegNet3D, UNet3D, VNet

SHORT_NAMES = (
    *(CASENet, LinkNet, MoCo, SmpModel, TileClassifier, UNet, UNetTransfer, VanillaUNet),
    *(AttnUNet3D, CleftNet, ResUNet3D, SegNet3D, UNet3D, VNet),
    *(CREMI, ISBI2012, LabelledTiles, Mosaic, SyntheticMosaics, Tiles, TwoViews, URISC),
    *(AttributionFields, ErrorMaps, IntegratedGradients, KNNProbe, LinearProbe),
    *(AdaptedRand, CleftDistances, LabelledObjectsIoU, SkeletonRecall, SurfaceDistances, TolerantF1, UriscF1),
    *(VariationOfInformation, VInfo, VRand),
)
