# oneDNN, which multiplies many rows with weights of bfloat16 (linear_onednn.h) and by which
# phi3_measure_peaks measures the rates of products; without it our own kernels do the former, and
# the latter are 0.
# From the system (or CMAKE_PREFIX_PATH) when 3.2 or newer, else from the PyPI packages
# onednn-cpu-gomp and onednn-devel-cpu-gomp in the environment of PHI3_PYTHON_EXECUTABLE.
# Defines the target phi3_onednn and the function phi3_install_onednn.

set(PHI3_PYTHON_EXECUTABLE python3 CACHE STRING "The Python whose packages may hold oneDNN")

find_package(dnnl 3.2 QUIET CONFIG)
if(NOT dnnl_FOUND)
  execute_process(
    COMMAND ${PHI3_PYTHON_EXECUTABLE} -c
            "import importlib.metadata as m; d = m.distribution('onednn-devel-cpu-gomp'); \
print(next(f for f in d.files if f.name == 'dnnl-config.cmake').locate().resolve().parent)"
    OUTPUT_VARIABLE onednn_config_dir OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(onednn_config_dir)
    find_package(dnnl 3.2 QUIET CONFIG PATHS ${onednn_config_dir} NO_DEFAULT_PATH)
  endif()
endif()
add_library(phi3_onednn INTERFACE)
if(NOT dnnl_FOUND)
  message(STATUS "oneDNN 3.2 or newer was not found: prefills of bfloat16 weights are 5 % slower, "
                 "and phi3_measure_peaks measures no products")
  function(phi3_install_onednn target destination component)
  endfunction()
  return()
endif()
find_package(OpenMP REQUIRED COMPONENTS C)
target_link_libraries(phi3_onednn INTERFACE DNNL::dnnl OpenMP::OpenMP_C)
target_compile_definitions(phi3_onednn INTERFACE PHI3_ONEDNN)

# The library file itself, behind whatever links lead to it.
get_target_property(onednn_location DNNL::dnnl LOCATION)
file(REAL_PATH ${onednn_location} onednn_file)
get_filename_component(onednn_directory ${onednn_location} DIRECTORY)
set(onednn_soname libdnnl.so.${dnnl_VERSION_MAJOR})
message(STATUS "oneDNN ${dnnl_VERSION}: ${onednn_location}")

# A oneDNN from PyPI is put beside the target that needs it, so that what is installed stands alone;
# one from the system is found by the dynamic linker. `cmake --install --strip` strips it too.
function(phi3_install_onednn target destination component)
  if(NOT onednn_directory MATCHES "^/usr/")
    set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN"
                          BUILD_RPATH "$ORIGIN;${onednn_directory}")
    install(PROGRAMS ${onednn_file} DESTINATION ${destination} RENAME ${onednn_soname}
            COMPONENT ${component})
    set(installed "\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${destination}/${onednn_soname}")
    install(CODE "if(CMAKE_INSTALL_DO_STRIP AND EXISTS \"${CMAKE_STRIP}\")
  execute_process(COMMAND \"${CMAKE_STRIP}\" --strip-unneeded \"${installed}\")
endif()" COMPONENT ${component})
  endif()
endfunction()
