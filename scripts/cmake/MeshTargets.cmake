# SPDX-License-Identifier: Apache-2.0
# Helpers that give every target the same warnings, sanitizers and include root.

set(MESH_WARNINGS -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor
    -Wold-style-cast -Woverloaded-virtual -Wno-missing-field-initializers -Wno-gnu-statement-expression-from-macro-expansion)
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  list(REMOVE_ITEM MESH_WARNINGS -Wno-gnu-statement-expression-from-macro-expansion)
endif()

if(MESH_SANITIZE STREQUAL "address+undefined")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(MESH_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
endif()
if(MESH_SANITIZE STREQUAL "")
  # What Debian builds its packages with.
  add_compile_options(-fstack-protector-strong $<$<CONFIG:RelWithDebInfo>:-D_FORTIFY_SOURCE=2>)
  add_link_options(-Wl,-z,relro,-z,now)
endif()
if(MESH_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
add_compile_options(-ffile-prefix-map=${CMAKE_SOURCE_DIR}=.)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  add_link_options(-fuse-ld=lld-19)
endif()

if(MESH_PCH AND CMAKE_CXX_COMPILER_LAUNCHER STREQUAL "ccache")
  # Without these it never uses its cache for what uses a precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros ccache)
endif()

# mesh_quick_to_build(targets...): without optimisation in Debug builds; for what spends no time of its own at run time.
# What parses a command line (CLI11 is all header) takes half the time to build.
function(mesh_quick_to_build)
  foreach(target ${ARGN})
    target_compile_options(${target} PRIVATE $<$<CONFIG:Debug>:-O0>)
  endforeach()
endfunction()

# mesh_precompile(target headers...): with MESH_PCH these and the most included ones are parsed once for the target. Only
# headers of the system and of libraries: ours change. Without the time in it ccache knows it by its bytes.
function(mesh_precompile target)
  if(MESH_PCH)
    target_precompile_headers(${target} PRIVATE ${ARGN} <algorithm> <array> <chrono> <expected> <functional> <map> <memory>
      <optional> <set> <span> <string> <unordered_map> <variant> <vector> <fmt/format.h>)
    target_compile_options(${target} PRIVATE "SHELL:-Xclang -fno-pch-timestamp")
  endif()
endfunction()

# mesh_library(name [LINK targets...]): a static library of all .cpp files of the current folder but main.cpp.
function(mesh_library name)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  list(REMOVE_ITEM sources ${CMAKE_CURRENT_SOURCE_DIR}/main.cpp)
  add_library(${name} STATIC ${sources})
  target_compile_options(${name} PRIVATE ${MESH_WARNINGS})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR}/agent)
  target_include_directories(${name} SYSTEM PUBLIC ${CMAKE_SOURCE_DIR}/bpf/include)
  target_link_libraries(${name} PUBLIC ${arg_LINK})
endfunction()

# mesh_executable(name SOURCES files... [LINK targets...])
function(mesh_executable name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_compile_options(${name} PRIVATE ${MESH_WARNINGS})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/agent ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${arg_LINK})
endfunction()
