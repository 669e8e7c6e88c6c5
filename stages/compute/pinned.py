"""What TensorFlow's libraries take from the processor, in place of which the same is put on every promised machine."""

import ctypes
import mmap
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from stages.common import cli

# Sizes of the caches of level 1, 2 and 3 that one thread may use, in bytes. Eigen and oneDNN cut their work into blocks
# of these sizes, which decides the order of sums; both would read them from the processor.
CACHES = (32 * 1024, 1024 * 1024, 8 * 1024 * 1024)
# Where TensorFlow's library keeps them: mangled name without its `_Z`, then offset in bytes and value.
STATICS = {
    "ZN5Eigen8internal20manage_caching_sizesENS_6ActionEPlS2_S2_E12m_cacheSizes": (0, struct.pack("<3q", *CACHES)),
    "N10tensorflowL11cache_sizesE": (0, struct.pack("<3q", *CACHES)),  # of convolutions without oneDNN, three copies
    # oneDNN's `Xbyak::util::Cpu`: a core with one thread, ten sizes, ten numbers of cores that share the cache, levels
    "ZN4dnnl4impl3cpu3x643cpuEvE4cpu_": (20, struct.pack("<2I10I10II", 1, 1, *CACHES, *[0] * 7, *[1] * 3, *[0] * 7, 3)),
}
LOOKS_AT_PROCESSOR = "_ZN4dnnl4impl3cpu8platform13get_num_coresEv"  # a function that fills oneDNN's
# AMX, AVX-512, AVX-VNNI and AVX-NE-CONVERT among the bits of TensorFlow's `tsl::port::CPUIDInfo`
BEYOND_AVX2 = 0x1FFFF3C
TEST_FEATURE = "_ZN3tsl4port14TestCPUFeatureENS0_10CPUFeatureE"


def hold_to_promise(native: bool) -> None:
    """Overwrite what TensorFlow's libraries read from the processor; warn where they keep it elsewhere."""
    try:
        _pin_statics()
        if not native:
            _hide_instructions()
    except (OSError, LookupError) as error:
        cli.warn(f"TensorFlow: {error}: results may differ in the last bits from those of other processors")


def _pin_statics() -> None:
    """Write STATICS, and mark each as initialised (`_ZGV...`)."""
    find = _finder("libtensorflow_cc.so.2")
    addresses = {name: find(f"_Z{name}") for name in STATICS}
    ctypes.CFUNCTYPE(ctypes.c_uint)(find(LOOKS_AT_PROCESSOR)[0])()
    for name, (offset, value) in STATICS.items():
        for address in addresses[name]:
            ctypes.memmove(address + offset, value, len(value))
        for guard in find(f"_ZGV{name}", optional=True):
            ctypes.memmove(guard, b"\1", 1)


def _hide_instructions() -> None:
    """Let TensorFlow see nothing beyond AVX2.

    It asks the processor whether oneDNN can compute with bfloat16 or float16, and the process crashes where oneDNN,
    which is held to AVX2, cannot.
    """
    find = _finder("libtensorflow_framework.so.2")
    test_feature = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_int)(find(TEST_FEATURE)[0])
    test_feature(0)  # fills what the pointer points at
    pointer = ctypes.c_void_p.from_address(find("_ZN3tsl4port12_GLOBAL__N_15cpuidE")[0])
    features = ctypes.c_uint64.from_address(pointer.value)
    features.value &= ~BEYOND_AVX2


def _finder(name: str) -> Callable[..., list[int]]:
    """`find(symbol, optional=False)`: where the running process has the symbols of this mangled name in a library."""
    library = Path(tf.__file__).resolve().with_name(name)
    loaded_at, lookup = _load_address(library), _symbols(library)

    def find(symbol: str, optional: bool = False) -> list[int]:
        found = [loaded_at + address for address in lookup(symbol)]
        if not found and not optional:
            raise LookupError(f"{name} has no {symbol}")
        return found

    return find


def _load_address(library: Path) -> int:
    """Where the running process has mapped the first byte of `library`; LookupError if it has not."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *path = line.split(maxsplit=5)
        if path and int(offset, 16) == 0 and Path(path[0]).resolve() == library:
            return int(span.split("-")[0], 16)
    raise LookupError("not loaded")


def _symbols(library: Path) -> Callable[[str], list[int]]:
    """`lookup(name)`: addresses of all symbols of a 64-bit ELF file with this name, local ones too (`man 5 elf`).

    The dynamic linker finds exported names alone, and most of these are not.
    """
    with library.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    (table,), (count,) = struct.unpack_from("<Q", data, 0x28), struct.unpack_from("<H", data, 0x3C)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + 64 * number) for number in range(count)]
    symtab = next((section for section in sections if section[1] == 2), None)
    if symtab is None:
        raise LookupError(f"{library.name} has no symbol table")
    _, _, _, _, names_at, names_size, *_ = sections[symtab[6]]
    fields = np.dtype([("name", "<u4"), ("about", "<u4"), ("value", "<u8"), ("size", "<u8")])
    symbols = np.frombuffer(data, fields, symtab[5] // fields.itemsize, symtab[4])
    names = symbols["name"]
    starts = np.sort(names)
    lengths = np.diff(starts, append=names_size)  # the names lie one after the other

    def lookup(name: str) -> list[int]:
        wanted = name.encode() + b"\0"
        places = [names_at + int(start) for start in starts[lengths == len(wanted)]]
        found = [at - names_at for at in places if data[at : at + len(wanted)] == wanted]
        return symbols["value"][np.isin(names, found)].tolist()

    return lookup


def use_portable_operations() -> None:
    """Replace what Eigen computes from the processor's estimates of 1 / x and 1 / sqrt(x), which differ by its maker.

    BatchNormalization uses `rsqrt`, the activation gelu `erfc`; for float64 Eigen uses no estimate. The optimizers Lamb and
    Ftrl use `pow` to square and to take roots, as Grappler would compute it: 8 ms in place of 14 ms a step of 64 images.
    """
    from tensorflow.python.ops import math_ops  # the names that TensorFlow's own functions and gradients call

    erfc, power, cheaper = tf.math.erfc, tf.pow, {2: tf.square, 0.5: tf.sqrt}
    portable = {
        "rsqrt": lambda x, name=None: 1.0 / tf.sqrt(x),
        "reciprocal": lambda x, name=None: 1.0 / x,
        "erfc": lambda x, name=None: tf.cast(erfc(tf.cast(x, tf.float64)), x.dtype),
        "pow": lambda x, y, name=None: cheaper.get(_number(y), lambda x: power(x, y))(x),
    }
    for name, function in portable.items():
        for module in (tf, tf.math, math_ops):
            if hasattr(module, name):
                setattr(module, name, function)


def _number(value: tf.Tensor | float) -> float | None:
    """The one number that a graph has for a value, if it has."""
    known = tf.get_static_value(value)
    return None if known is None or np.ndim(known) else float(known)
