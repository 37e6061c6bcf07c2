// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/mman.h>

#include <memory>
#include <new>
#include <stdexcept>

namespace mesh::test {

/// A T that a process shares with the children it forks: for counters and switches, so T holds atomics only.
template <typename T>
std::shared_ptr<T> make_shared_memory() {
  void* memory = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("mmap shared memory");
  return std::shared_ptr<T>(new (memory) T(), [](T* object) { ::munmap(object, sizeof(T)); });
}

}  // namespace mesh::test
