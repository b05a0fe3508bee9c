# With nvcc, not the emulator: what can be known of the kernels without a GPU. They are compiled again,
# to the text that the checks read, so this takes minutes.
add_test(NAME cuda_static_checks
         COMMAND ${PHI3_PYTHON_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/cuda/static_checks.py
                 --include ${PHI3_CUBLAS_INCLUDE})
add_test(NAME cuda_static_checks_find
         COMMAND ${PHI3_PYTHON_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/cuda/test_static_checks.py)
set_tests_properties(cuda_static_checks cuda_static_checks_find PROPERTIES LABELS cuda)
