// SPDX-License-Identifier: Apache-2.0
// Kernel programs that are run once for each object of a kind: sockets of a network namespace, open files.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace mesh::datapath {

class SocketIterator {
 public:
  SocketIterator() = default;  ///< Of nothing; must not run.
  /// `program`: a descriptor of somebody else's, of type iterator.
  static base::Result<SocketIterator> make(int program);
  [[nodiscard]] bool valid() const { return link_.valid(); }

  using Take = std::function<void(std::span<const std::byte>)>;
  /// Blocks while the kernel walks what the calling thread's namespaces have. `take` gets what the program writes, in
  /// pieces that end anywhere.
  [[nodiscard]] base::Result<void> run(const Take& take) const;

 private:
  explicit SocketIterator(base::Fd link) : link_(std::move(link)) {}
  base::Fd link_;
};

}  // namespace mesh::datapath
