"""What the programs can be told: one dataclass a program, made of parts, one room a purpose.

Values are checked here, before anything is opened; what depends on files is checked where they are read. A field's
meaning stands under it. `conf/*.yaml` holds the values that users start from.
"""

from distill.config.compute import ComputeConfig
from distill.config.contraction import (
    ContractConfig,
    ContractRunConfig,
    LimitsConfig,
    MinimumConfig,
    SearchConfig,
    StepSizeConfig,
)
from distill.config.data import DataConfig
from distill.config.evaluation import EvalChangeConfig, EvaluateConfig
from distill.config.exporting import ExportConfig, WeightsConfig
from distill.config.gallery import GalleryConfig, ScanConfig, ShowConfig
from distill.config.loss import LossConfig
from distill.config.models import StudentConfig, TeacherConfig
from distill.config.optim import OptimConfig
from distill.config.programs import (
    SaveLogitsConfig,
    TeacherRunConfig,
    TrainStudentConfig,
    VerifyLogitsConfig,
)
from distill.config.store import NewStoreConfig, StoreConfig
from distill.config.training import EvalConfig, RunConfig, TrainConfig
from distill.config.transfer import TransferConfig
from distill.config.verification import CheckConfig, OneViewConfig

__all__ = [
    "CheckConfig",
    "ComputeConfig",
    "ContractConfig",
    "ContractRunConfig",
    "DataConfig",
    "EvalChangeConfig",
    "EvalConfig",
    "EvaluateConfig",
    "ExportConfig",
    "GalleryConfig",
    "LimitsConfig",
    "LossConfig",
    "MinimumConfig",
    "NewStoreConfig",
    "OneViewConfig",
    "OptimConfig",
    "RunConfig",
    "SaveLogitsConfig",
    "ScanConfig",
    "SearchConfig",
    "ShowConfig",
    "StepSizeConfig",
    "StoreConfig",
    "StudentConfig",
    "TeacherConfig",
    "TeacherRunConfig",
    "TrainConfig",
    "TrainStudentConfig",
    "TransferConfig",
    "VerifyLogitsConfig",
    "WeightsConfig",
]
