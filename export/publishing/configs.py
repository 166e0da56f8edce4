"""Model -> ``config.pbtxt``, through Triton's own protobuf schema."""

from __future__ import annotations

from dataclasses import replace

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from cocoer_bls.inputs import MAX_BATCH_IMAGES, MAX_BATCH_PERSONS
from cocoer_bls.manifest import LABELS_FILE
from cocoer_bls.options import DEFAULT_LIMITS, DEFAULT_OPTIONS
from export.models import Ensemble, Model
from export.models.tensors import PERSONS, TensorSpec
from export.options import Options
from export.plans.profiles import as_text, profile
from export.publishing.layout import ONNX_FILE

MAX_QUEUE = 64
"""Requests waiting for ``cocoer``; the next one is refused at once (UNAVAILABLE)."""

MAX_WAIT_MICROSECONDS = 20_000_000
"""How long a request may wait for ``cocoer`` before it is refused; requests may ask for less (``timeout``)."""

COCOER_INSTANCES = 2
"""An instance is busy while its recognition runs; a second one decodes the next image meanwhile."""

GPU_INSTANCES, GPU_MAX_QUEUE = 16, 512
"""The same where a GPU recognises: decoding and cutting out crops, on the CPU, are then what takes time."""

DEFAULT = Options()


def all_configs(options: Options = DEFAULT) -> dict[str, pb.ModelConfig]:
    """Model name -> configuration, for everything in the repository."""
    configs = {model.name: model_config(model, options) for model in options.models}
    configs |= {ensemble.name: ensemble_config(ensemble) for ensemble in options.ensembles}
    return {**configs, "cocoer": cocoer_config(options)}


def to_text(config: pb.ModelConfig) -> str:
    """The configuration as ``config.pbtxt`` holds it."""
    return "# Written by export/build_engines.py\n" + text_format.MessageToString(
        config, use_short_repeated_primitives=True
    )


def model_config(model: Model, options: Options = DEFAULT) -> pb.ModelConfig:
    """Configuration of a model that runs an ONNX graph, or the TensorRT plan made of it."""
    if model.runs_in_bf16(options):
        return _bf16_config(model, options)
    plan = options.runs_plan(model)
    backend = "tensorrt" if plan else "onnxruntime"
    config = pb.ModelConfig(name=model.name, backend=backend, max_batch_size=model.max_batch_size)
    batched = model.batch is not None
    config.input.extend(_input(tensor, batched) for tensor in model.inputs)
    config.output.extend(_output(tensor, batched) for tensor in model.outputs)
    # KIND_AUTO: the GPU where there is one. The count is written out because the server's default differs by backend.
    on_gpu = options.on_gpu and not model.is_stand_in(options)
    kind = pb.ModelInstanceGroup.KIND_GPU if on_gpu else pb.ModelInstanceGroup.KIND_AUTO
    config.instance_group.add(count=1, kind=kind)
    if batched:
        config.dynamic_batching.SetInParent()
    if plan:
        _cuda_graphs(config, model)
    elif on_gpu:
        _accelerate(config, model, options)
    else:
        _share_cpu(config, model, options)
    if options.precision == "fp16" and not plan:
        # ONNX Runtime's CPU provider crashes on FP16 transformer graphs at its highest level.
        config.optimization.graph.level = 1
    _warm_up(config, batched)
    return config


def _bf16_config(model: Model, options: Options) -> pb.ModelConfig:
    """Configuration of a model that OpenVINO runs, by the names of Triton's native backend (its README lists them)."""
    # That backend fixes the batch at max_batch_size, which 0 keeps it from; Triton then joins no requests, but the
    # model that calls this one sends all persons of its own batch at once. It runs on CPUs alone, and says so of AUTO.
    config = pb.ModelConfig(name=model.name, backend="openvino", max_batch_size=0, default_model_filename=ONNX_FILE)
    config.input.extend(_input(tensor, batched=False) for tensor in model.inputs)
    config.output.extend(_output(tensor, batched=False) for tensor in model.outputs)
    config.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)
    parameters = {"HINT_BF16": "YES", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(_threads(model, options))}
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    _warm_up(config, batched=False)
    return config


def _threads(model: Model, options: Options) -> int:
    """A model's threads of the cores."""
    # In a build in bf16 a trunk that stays FP32 has three times the work of the one beside it.
    alone = options.precision == "bf16" and model.has_trunk and not model.in_bf16
    return max(1, round((1 if alone else model.cpu_share) * options.cores))


def _share_cpu(config: pb.ModelConfig, model: Model, options: Options) -> None:
    """Threads and memory on a CPU, by the names of Triton's native backend (its README lists them)."""
    # Unless told otherwise, each session has a thread per core that spins when it waits, also while another one works.
    config.parameters["intra_op_thread_count"].string_value = str(_threads(model, options))
    if model.has_trunk:
        # A large batch's memory goes back to the system instead of staying with this model.
        config.parameters["memory.enable_memory_arena_shrinkage"].string_value = "cpu:0"


def _cuda_graphs(config: pb.ModelConfig, model: Model) -> None:
    """Record a plan's launches once for small batches, where launching takes longer than computing."""
    if not model.fixed_work:
        return
    cuda = config.optimization.cuda
    cuda.graphs = True
    smallest = 1
    size = 1
    while size <= min(model.max_batch_size, PERSONS.optimum):
        graph = cuda.graph_spec.add(batch_size=size)
        # Batches between two sizes take the larger one's graph.
        graph.graph_lower_bound.batch_size = smallest
        for tensor in model.inputs:
            graph.input[tensor.name].dim.extend(tensor.dims)
            graph.graph_lower_bound.input[tensor.name].dim.extend(tensor.dims)
        smallest, size = size + 1, size * 2


def _accelerate(config: pb.ModelConfig, model: Model, options: Options) -> None:
    """ONNX Runtime's providers, by the names of Triton's native backend (its README lists them)."""
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    if options.accelerator == "tensorrt" and model.has_trunk:
        ranges = profile(model)
        parameters = {
            "precision_mode": "FP32",  # FP16 would let it put LayerNorms and energies there as well
            "max_workspace_size_bytes": str(int(options.workspace_gib * 2**30)),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(options.engine_cache),
            "trt_engine_cache_prefix": model.name,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(options.engine_cache),
            **{f"trt_profile_{bound}_shapes": as_text(ranges, i) for i, bound in enumerate(("min", "opt", "max"))},
        }
        accelerators.add(name="tensorrt", parameters=parameters)
    # ONNX Runtime multiplies FP32 as TF32 unless told not to: 10 bits of mantissa, where 1e-3 on logits is promised.
    cuda = {"cudnn_conv_use_max_workspace": "1", "use_ep_level_unified_stream": "1", "use_tf32": "0"}
    accelerators.add(name="cuda", parameters=cuda)


def _warm_up(config: pb.ModelConfig, batched: bool) -> None:
    """Run once before the model is ready: allocations and kernel selection are not the first user's to wait for."""
    sample = config.model_warmup.add(name="one", batch_size=1)
    for tensor in config.input:
        entry = sample.inputs[tensor.name]
        entry.data_type = tensor.data_type
        entry.dims.extend(tensor.dims if batched else [1, *tensor.dims[1:]])
        entry.zero_data = True


def ensemble_config(ensemble: Ensemble) -> pb.ModelConfig:
    """Configuration of an ensemble: leading dimensions are its own, so that images and persons can differ in number."""
    config = pb.ModelConfig(name=ensemble.name, platform="ensemble", max_batch_size=0)
    config.input.extend(_input(tensor, batched=False) for tensor in ensemble.inputs)
    config.output.extend(_output(tensor, batched=False) for tensor in ensemble.outputs)
    for step in ensemble.steps:
        message = config.ensemble_scheduling.step.add(model_name=step.model, model_version=-1)
        message.input_map.update(step.inputs)
        message.output_map.update(step.outputs)
    return config


def cocoer_config(options: Options = DEFAULT) -> pb.ModelConfig:
    """Configuration of the Python model that clients call."""
    config = pb.ModelConfig(name="cocoer", backend="python", max_batch_size=MAX_BATCH_IMAGES)
    config.input.add(name="IMAGE", data_type=pb.TYPE_STRING, dims=[1])
    config.input.add(name="PERSONS", data_type=pb.TYPE_FP32, dims=[-1, 8], optional=True, allow_ragged_batch=True)
    config.output.add(name="RESULT", data_type=pb.TYPE_STRING, dims=[1])
    instances = GPU_INSTANCES if options.on_gpu else COCOER_INSTANCES
    config.instance_group.add(count=instances, kind=pb.ModelInstanceGroup.KIND_CPU)
    # Here alone: what this model has accepted, the models behind it never refuse.
    policy = config.dynamic_batching.default_queue_policy
    policy.max_queue_size = GPU_MAX_QUEUE if options.on_gpu else MAX_QUEUE
    policy.default_timeout_microseconds = MAX_WAIT_MICROSECONDS
    policy.timeout_action = pb.ModelQueuePolicy.REJECT
    policy.allow_timeout_override = True
    limits = replace(DEFAULT_LIMITS, max_batch_persons=MAX_BATCH_PERSONS) if options.on_gpu else DEFAULT_LIMITS
    for key, value in {**DEFAULT_OPTIONS.to_config(), **limits.to_config()}.items():
        config.parameters[key].string_value = value
    return config


def _dims(tensor: TensorSpec, batched: bool) -> list[int]:
    # Triton has no rank-0 tensors: a batched scalar would need dims [1]. None of ours is batched.
    return list(tensor.dims) if batched else [-1, *tensor.dims]


def _input(tensor: TensorSpec, batched: bool) -> pb.ModelInput:
    return pb.ModelInput(name=tensor.name, data_type=f"TYPE_{tensor.dtype}", dims=_dims(tensor, batched))


def _output(tensor: TensorSpec, batched: bool) -> pb.ModelOutput:
    output = pb.ModelOutput(name=tensor.name, data_type=f"TYPE_{tensor.dtype}", dims=_dims(tensor, batched))
    if tensor.labelled:
        output.label_filename = LABELS_FILE
    return output
