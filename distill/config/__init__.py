"""The settings of the programs: one dataclass per program, made of groups, one module per purpose.

A field holds its default, and the string under it its meaning; `--help` and docs/settings.md are made of both.
`conf/*.yaml` holds what a program is composed of (student, teacher, views, recipe) and no default. Values are checked
here, before anything is opened; what depends on files is checked where they are read.

command   arguments -> one checked configuration      settings  keys, defaults, meanings: read from the dataclasses
help      the text of --help                          former    removed and renamed settings of earlier versions
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
