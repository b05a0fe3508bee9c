# nvcc and cuBLAS. Sets phi3_cuda_found; where something is missing, PHI3_CUDA=on is an error that
# names it, auto goes on without CUDA and says so.
#
# cuBLAS comes with the toolkit or from PyPI (nvidia-cublas), into the environment of
# PHI3_PYTHON_EXECUTABLE, where it is also found at run time.
set(phi3_cuda_found FALSE)

function(phi3_cuda_missing what debian other)
  if(PHI3_CUDA STREQUAL "on")
    phi3_missing("${what} for its CUDA backend" "${debian} (from NVIDIA's repository)" "${other}")
  endif()
  message(STATUS "CUDA backend: off, ${what} was not found. ${other}")
endfunction()

find_program(PHI3_NVCC NAMES nvcc HINTS ENV CUDACXX PATHS /usr/local/cuda/bin)
if(NOT PHI3_NVCC)
  phi3_cuda_missing("nvcc" "cuda-nvcc-13-0" "PyPI has no compiler that CMake can use.")
  return()
endif()
execute_process(COMMAND ${PHI3_NVCC} --version OUTPUT_VARIABLE nvcc_version ERROR_QUIET)
string(REGEX MATCH "release ([0-9.]+)" nvcc_version "${nvcc_version}")
set(nvcc_version "${CMAKE_MATCH_1}")
if(nvcc_version VERSION_LESS 13)
  phi3_cuda_missing("nvcc 13 or newer" "cuda-nvcc-13-0"
                    "${PHI3_NVCC} is of version ${nvcc_version}.")
  return()
endif()
set(CMAKE_CUDA_COMPILER ${PHI3_NVCC} CACHE FILEPATH "nvcc")

file(REAL_PATH ${PHI3_NVCC} nvcc_file)
get_filename_component(toolkit ${nvcc_file}/../.. ABSOLUTE)
execute_process(COMMAND ${PHI3_PYTHON_EXECUTABLE} -c
                        "import sysconfig; print(sysconfig.get_path('purelib'))"
                OUTPUT_VARIABLE packages OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
set(places ${toolkit} /usr/local/cuda ${packages}/nvidia/cu13)
find_path(PHI3_CUBLAS_INCLUDE cublas_v2.h HINTS ${places} PATH_SUFFIXES include)
find_library(PHI3_CUBLAS NAMES cublas libcublas.so.13 HINTS ${places} PATH_SUFFIXES lib lib64)
if(NOT PHI3_CUBLAS_INCLUDE OR NOT PHI3_CUBLAS)
  phi3_cuda_missing("cuBLAS 13" "libcublas-dev-13-0" "PyPI: pip install nvidia-cublas==13.0.*")
  return()
endif()
file(REAL_PATH ${PHI3_CUBLAS} cublas_file)
get_filename_component(phi3_cublas_directory ${cublas_file} DIRECTORY)
set(phi3_cuda_found TRUE)
message(STATUS "CUDA backend: on, nvcc ${nvcc_version}, ${cublas_file}, "
               "architectures ${PHI3_CUDA_ARCHITECTURES}")
