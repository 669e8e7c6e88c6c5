"""The measurements as Markdown: what `make readme` writes into README.md and pages of docs/."""

import statistics

from tools.markdown import table

NAMES = {
    "this_project": "this project",
    "keras_fit": "Keras `fit`",
    "keras_fit_xla": "Keras `fit`, XLA, 100 steps an execution",
    "pytorch": "PyTorch loop",
    "native": "this project, `instructions: native`",
    "folder_end_to_end": "this project, 512 JPEG files from disk to result",
    "folder_end_to_end_native": "the same, `instructions: native`",
    "keras_predict": "`model.predict`",
    "onnx_runtime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "photos_this_project": "this project",
    "photos_native": "this project, `instructions: native`",
    "photos_keras": "`load_img` and `model.predict`, which do not antialias",
    "photos_openvino": "Pillow in two threads, then OpenVINO, by hand",
    "photos_decoded": "this project, decoding alone",
}


def against(seconds: float, base: float) -> str:
    """Seconds and how many times the base they are."""
    return f"{seconds:.2f} s ({seconds / base:.2f}x)"


def training(results: dict) -> list[str]:
    """An epoch of each version: everybody's seconds, and in brackets this time divided by ours."""
    versions = results["training"]
    names = list(next(iter(versions.values()))["seconds"])
    head = ["an epoch of", *(NAMES[name] for name in names)]
    rows = []
    for version, block in versions.items():
        seconds = block["seconds"]
        ours = seconds["this_project"]
        others = [against(seconds[name], ours) for name in names[1:]]
        rows.append([f"`{version}`, {block['images']:,} images", f"**{ours:.2f} s**", *others])
    return table(head, *rows)


def networks(measured: dict) -> list[str]:
    """Networks beside `fit`: times, peak memory and accuracy of both."""
    rows = []
    for name, block in measured.items():
        ours, theirs = block["this_project"], block["keras_fit"]
        rows.append(
            [
                f"`{name}`",
                f"{ours['epoch_s']:.2f} s",
                f"{theirs['epoch_s']:.2f} s",
                f"{theirs['epoch_s'] / ours['epoch_s']:.2f}x",
                f"{ours['first_s']:.1f} / {theirs['first_s']:.1f} s",
                f"{ours['memory_mib']:.0f} / {theirs['memory_mib']:.0f} MiB",
                f"{ours['accuracy']:.4f} / {theirs['accuracy']:.4f}",
            ]
        )
    head = ["network", "an epoch", "Keras `fit`", "times as fast", "first epoch", "peak memory", "accuracy"]
    return table(head, *rows)


def span(measured: dict) -> str:
    """The worst, the median and the best ratio to `fit` among these networks."""
    ratios = [block["keras_fit"]["epoch_s"] / block["this_project"]["epoch_s"] for block in measured.values()]
    return f"worst {min(ratios):.2f}x, median {statistics.median(ratios):.2f}x, best {max(ratios):.2f}x"


def trained(measured: dict) -> str:
    """On how much, and how long, these networks were trained."""
    block = next(iter(measured.values()))
    return f"{block['images']:,} training images, {block['epochs']} epochs; the accuracy is that on the validation split after the last."


def inference(results: dict) -> list[str]:
    """ResNet50: everybody's images a second, and our rate (computation alone; from disk to result) divided by it."""
    rates = results["inference"]["images_per_s"]
    ours, end_to_end = rates["this_project"], rates["folder_end_to_end"]
    rows = (
        [NAMES[name], f"{rate:.1f}", f"{ours / rate:.2f}x", f"{end_to_end / rate:.2f}x"] for name, rate in rates.items()
    )
    return table(["ResNet50, float32", "images/s", "our computation alone", "ours, from disk to result"], *rows)


def photos(results: dict) -> list[str]:
    """Photos of 12 megapixels: images a second and peak memory by the size of their files, and what bounds the rate."""
    block = results["photos"]
    sizes = [name for name in block if name != "computing_per_s"]
    rows = [
        [NAMES[name]]
        + [f"{block[size]['per_s'][name]:.1f}, {block[size]['memory_mib'][name]:,.0f} MiB" for size in sizes]
        for name in block[sizes[0]]["per_s"]
    ]
    head = [f"{block[size]['images']} of {block[size]['bytes'] / 1e6:.1f} MB: images/s, peak memory" for size in sizes]
    return [*table(["photos of 12 megapixels", *head], *rows), "", *(bound(block, size) for size in sizes)]


def bound(block: dict, size: str) -> str:
    """What the same cores could do if they decoded and computed in turn and did nothing else, and what is reached of it."""
    sentences = []
    for name, computes in (("photos_this_project", "this_project"), ("photos_native", "native")):
        rates = block["computing_per_s"][computes], block[size]["per_s"]["photos_decoded"]
        reached, possible = block[size]["per_s"][name], 1 / sum(1 / rate for rate in rates)
        sentences.append(
            f"{NAMES[name]}: computing alone {rates[0]:.1f}, decoding alone {rates[1]:.1f}, so both on the same cores "
            f"at most {possible:.1f} images/s; reached {reached:.1f} ({reached / possible:.2f}x of it, "
            f"{reached / rates[0]:.2f}x of the computing rate)"
        )
    return f"- Files of {block[size]['bytes'] / 1e6:.1f} MB, {'; '.join(sentences)}."


def pipeline(results: dict) -> list[str]:
    """DVC's runs and what they are compared with; then each stage's seconds and processor time."""
    seconds = results["pipeline"]
    rows = [
        ["`dvc repro`, empty cache, files fetched", "the tutorial as one script", "repro", "tutorial"],
        ["`dvc repro`, nothing to do", "`dvc status`", "repro, nothing to do", "status"],
        ["`make repro`, nothing to do", "`dvc status`", "make repro, nothing to do", "status"],
    ]
    compared = table(
        ["work", "against", "seconds", "ratio"],
        *([a, b, f"{seconds[x]:.1f} / {seconds[y]:.1f}", f"{seconds[x] / seconds[y]:.2f}x"] for a, b, x, y in rows),
    )
    stages = (
        [f"`{name}`", f"{taken['seconds']:.1f}", f"{taken['cpu_seconds']:.1f}"]
        for name, taken in seconds["stages"].items()
    )
    first = f"The first result from nothing: {seconds['set-up'] + seconds['repro']:.0f} s, of which `make setup` with empty caches {seconds['set-up']:.0f} s."
    return [*compared, "", first, "", *table(["stage", "seconds", "processor time, s"], *stages)]


def lower_bounds(results: dict) -> list[str]:
    """The time that the matrix products alone would take, and how many times this we take."""
    peak, work = results["lower_bounds"]["matrix_gflop_per_s"], results["lower_bounds"]["gflop_per_image"]
    rows = []
    for version, block in results["training"].items():
        gflop = work[version] * block["images"]
        seconds = block["seconds"]["this_project"]
        rows.append(
            [f"an epoch of `{version}`", f"{gflop:,.0f}", f"{gflop / peak:.2f} s", f"{seconds / (gflop / peak):.1f}x"]
        )
    most = peak / work["resnet50"]
    ours = results["inference"]["images_per_s"]["this_project"]
    rows.append(["ResNet50, an image", f"{work['resnet50']:.1f}", f"{1 / most:.3f} s", f"{most / ours:.1f}x"])
    return table(["work", "GFLOP", "lower bound", "this project takes"], *rows)


def ray(results: dict) -> list[str]:
    """Ray against one process on the same cores, and the memory of its driver."""
    block = results["ray"]
    local, on_ray = block["local"], block["ray"]
    rows = [
        [name, f"{engine['start_s']:.1f} s", f"{engine['images_per_s']:.1f}", f"{ratio:.2f}x"]
        for name, engine, ratio in [
            ("`engine: local`", local, 1),
            ("`engine: ray`, one worker", on_ray, on_ray["images_per_s"] / local["images_per_s"]),
        ]
    ]
    head = ["the `infer` stage on JPEG files", "start and end", "images/s between", "of `local`"]
    memory = (
        f"Ray's driver had {block['driver_mib_after_a_tenth']:.0f} MiB of its own after a tenth of {block['files']:,} files, "
        f"and {block['driver_mib_at_the_end']:.0f} MiB at the end. (These files are not images, so nothing is computed for them.)"
    )
    return [*table(head, *rows), "", memory]


def growth(results: dict) -> list[str]:
    """Time by the number of images."""
    rows = []
    for version, seconds in results["training_growth"].items():
        cells = (f"{int(images):,}: {value:.2f} s" for images, value in seconds.items())
        rows.append([f"an epoch of `{version}`", *cells])
    memory = results["memory"]
    cells = (f"{int(count):,}: {block['seconds']:.1f} s, {block['mib']:.0f} MiB" for count, block in memory.items())
    return table(["number of images: time", "", "", ""], *rows, ["the `infer` stage, memory", *cells, ""])


def gate(results: dict) -> str:
    """How often the gate is shut, by version and loss."""
    measured = results["gate"]
    losses = list(next(iter(measured.values()))["known"])
    head = [
        "version",
        "results over seeds",
        *("no loss" if lost == "0" else f"{int(lost) / 100:g} points" for lost in losses),
    ]
    rows = [
        [f"`{version}`", kind, *(f"{shares[lost]:.0%}" for lost in losses)]
        for version, block in measured.items()
        for kind, shares in block.items()
    ]
    return "\n".join(table(head, *rows)) + "\n"


def recipes(results: dict, text: str) -> str:
    """recipes.yaml, and what its versions gave."""
    rows = []
    for name, trainings in results["recipes"].items():
        accuracies, seconds, processor = (
            [each[key] for each in trainings.values()] for key in ("accuracy", "seconds", "cpu_seconds")
        )
        over_seeds = f"{statistics.mean(accuracies):.2%} ± {statistics.stdev(accuracies):.2%} ({len(accuracies)})"
        times = duration(statistics.median(seconds)), duration(statistics.median(processor))
        rows.append([f"`{name}`", over_seeds, f"{min(accuracies):.2%}", *times])
    head = ["version", "test accuracy over seeds: mean ± std (n)", "lowest", "a training", "processor time"]
    return "\n".join([*table(head, *rows), "", "```yaml", *text.splitlines(), "```"]) + "\n"


def highlights(results: dict) -> str:
    """The few lines of README.md."""
    machine, rates = results["machine"], results["inference"]["images_per_s"]
    epochs = (
        f"`{version}` {block['seconds']['keras_fit'] / block['seconds']['this_project']:.1f}x"
        for version, block in results["training"].items()
    )
    lines = [
        f"- An epoch, against Keras `fit`: {', '.join(epochs)} as fast.",
        f"- {len(results['networks'])} networks that people train on MNIST, against `fit`: {span(results['networks'])}.",
        f"- ResNet50, against `model.predict`: {rates['this_project'] / rates['keras_predict']:.1f}x as fast; against OpenVINO "
        f"called directly, which may use AVX-512: {rates['this_project'] / rates['openvino']:.1f}x.",
        f"- Measured side by side on {machine['cores']} cores of an {machine['processor']}.",
    ]
    return "\n".join(lines) + "\n"


def performance(results: dict) -> str:
    """The tables of docs/performance.md."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    peak = results["lower_bounds"]
    lines = [
        f"Measured by `make bench` on {machine['cores']} cores of an {machine['processor']} with "
        f"{machine['memory_gib']} GiB: medians of {machine['rounds']} rounds in turn, the pipeline once ({versions}).",
        "",
        *training(results),
        "",
        f"Networks that people train on MNIST: {trained(results['networks'])}",
        "",
        *networks(results["networks"]),
        "",
        f"Times as fast as `fit`: {span(results['networks'])}.",
        "",
        f"The versions of `params.yaml`: {trained(results['shipped'])}",
        "",
        *networks(results["shipped"]),
        "",
        *inference(results),
        "",
        *photos(results),
        "",
        *ray(results),
        "",
        *pipeline(results),
        "",
        f"Lower bounds: this machine computes {peak['matrix_gflop_per_s']:.0f} GFLOP/s in matrix products of float32, "
        f"and moves {peak['copy_gb_per_s']:.0f} GB/s to and from memory.",
        "",
        *lower_bounds(results),
        "",
        *growth(results),
    ]
    return "\n".join(lines) + "\n"


# The clusters of docs/scaling.md: cores as fast as this machine's, and the network of each node.
CLUSTERS = {"one node": 1, "16 nodes": 16, "256 nodes": 256}
NODE_CORES = 32
NODE_BYTES_PER_S = 25e9 / 8
CACHE_BYTES = 10e12


def duration(seconds: float) -> str:
    """Seconds in the greatest unit of which there is at least one."""
    units = {"years": 365 * 86_400, "days": 86_400, "h": 3_600, "min": 60, "s": 1, "ms": 1e-3}
    unit = next((name for name, size in units.items() if seconds >= size), "µs")
    return f"{seconds / units.get(unit, 1e-6):,.3g} {unit}"


def costs(results: dict) -> dict[str, float]:
    """Core-seconds an image: computing (all cores of this machine together), decoding, and the driver."""
    cores, rates = results["machine"]["cores"], results["inference"]["images_per_s"]
    return {
        "compute": cores / rates["this_project"],
        "compute native": cores / rates["native"],
        "decode": results["scaling"]["decode_s"],
        "driver": results["ray"]["driver_s_per_file"],
    }


def measured_costs(results: dict) -> list[str]:
    """What one of each costs, as measured."""
    scaling, cost = results["scaling"], costs(results)
    rows = [
        [f"read, decode and resize a JPEG of {scaling['image_bytes'] / 1e3:.0f} KB", duration(cost["decode"]) + " of a core"],
        ["ResNet50 for an image", f"{duration(cost['compute'])} of a core, {duration(cost['compute native'])} with `instructions: native`"],
        ["Ray's driver, for an image", f"{duration(cost['driver'])}, and {scaling['prediction_bytes']:.0f} bytes of predictions"],
        ["DVC's check of a file in a folder", f"{duration(scaling['dvc_folder']['first_s'])} for the first time, {duration(scaling['dvc_folder']['unchanged_s'])} when unchanged"],
        ["MD5, DVC's hash", f"{scaling['md5_bytes_per_s'] / 1e6:.0f} MB/s on a core"],
        *([f"`dvc status` with {int(count):,} versions", duration(taken)] for count, taken in scaling["dvc_status_s"].items()),
        *([f"train `{version}` for an epoch", duration(block["seconds"]["this_project"])] for version, block in results["training"].items()),
    ]  # fmt: skip
    return table(["what", "costs"], *rows)


def projected(results: dict) -> list[str]:
    """The time of each part alone for a million and a billion images on the clusters; the longest is bold."""
    scaling, cost, rows = results["scaling"], costs(results), []
    for images in (10**6, 10**9):
        for name, nodes in CLUSTERS.items():
            cores = nodes * NODE_CORES
            parts = [
                images * cost["compute"] / cores,
                images * cost["decode"] / cores,
                images * scaling["image_bytes"] / (nodes * NODE_BYTES_PER_S),
                images * cost["driver"],
                images * scaling["dvc_folder"]["first_s"],
            ]
            cells = [f"**{duration(part)}**" if part == max(parts) else duration(part) for part in parts]
            rows.append([f"10^{len(str(images)) - 1} on {name}", *cells])
    return table(["images", "compute", "decode", "network", "driver", "DVC, the folder for the first time"], *rows)


def scaling(results: dict) -> str:
    """The tables of docs/scaling.md."""
    machine, rate = results["machine"], results["scaling"]["md5_bytes_per_s"]
    cores = NODE_CORES
    lines = [
        f"Measured by `make bench` on {machine['cores']} cores of an {machine['processor']}:",
        "",
        *measured_costs(results),
        "",
        f"On nodes of {cores} such cores, each with a network of {NODE_BYTES_PER_S * 8 / 1e9:.0f} Gbit/s, each part by itself takes "
        "(the longest is bold: the others can run at the same time):",
        "",
        *projected(results),
        "",
        f"{CACHE_BYTES / 1e12:.0f} TB of cache: {duration(CACHE_BYTES / rate)} to hash on one core, "
        f"{duration(CACHE_BYTES / rate / cores)} on {cores}; {duration(CACHE_BYTES / NODE_BYTES_PER_S)} through one node's network.",
    ]
    return "\n".join(lines) + "\n"
