# With nvcc, not the emulator: what can be known of the kernels without a GPU. They are compiled again,
# to the text that the checks read, so this takes minutes.
add_test(NAME cuda_static_checks
         COMMAND ${PHI3_PYTHON_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/cuda/static_checks.py
                 --include ${PHI3_CUBLAS_INCLUDE})
add_test(NAME cuda_static_checks_find
         COMMAND ${PHI3_PYTHON_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/cuda/test_static_checks.py)
set_tests_properties(cuda_static_checks cuda_static_checks_find PROPERTIES LABELS cuda)

# The library itself is opened: it finds a card here, or says in words why not.
add_executable(print_backends cuda/print_backends.c)
target_link_libraries(print_backends PRIVATE phi3_static)
add_test(NAME cuda_opened COMMAND print_backends)
set_tests_properties(cuda_opened PROPERTIES LABELS cuda
                     ENVIRONMENT "PHI3_CUDA_LIBRARY=$<TARGET_FILE:phi3_cuda>"
                     PASS_REGULAR_EXPRESSION "cuda[:0]*: (available|missing: .*driver)")
