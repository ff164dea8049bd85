#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pjsua-lib/pjsua.h>
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, .m_name = "pjaudioport", .m_size = -1};
PyMODINIT_FUNC PyInit_pjaudioport(void) { (void)pjsua_get_state(); return PyModule_Create(&def); }
