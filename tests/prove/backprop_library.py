"""backprop_library.py: the C library as the proofs call it."""
import ctypes
import sys


def our_loss(library, model, path):
    """Mean loss of a model, or of a run's output, on a text file."""
    lib = ctypes.CDLL(library)
    lib.bp_open.restype = ctypes.c_void_p
    lib.bp_open.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    lib.bp_evaluate.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_double)]
    lib.bp_evaluate.restype = ctypes.c_bool
    lib.bp_close.argtypes = [ctypes.c_void_p]
    handle = lib.bp_open(model.encode(), None)
    loss = ctypes.c_double()
    ok = lib.bp_evaluate(handle, path.encode(), ctypes.byref(loss))
    code = lib.bp_close(handle)
    if not ok or code != 0:
        sys.exit("bp_evaluate of %s failed with %d" % (model, code))
    return loss.value
