// SPDX-License-Identifier: Apache-2.0
// Waiting until no reader that is under way now is left: all hooks run inside an RCU read-side section, so an RCU grace
// period is the proof.
//
// The way is membarrier(2), MEMBARRIER_CMD_GLOBAL (Linux 4.3): the kernel waits for synchronize_rcu(); 10 ms typical.
// Where it is filtered (seccomp) or refused (nohz_full CPUs), the fallback is the update of an element of a map of
// maps, after which the kernel waits likewise before it returns (kernel/bpf/syscall.c, maybe_wait_bpf_programs(); Linux
// 5.0, needs CAP_BPF). Where neither works the agent does not start:
// it could never use an id again.
#pragma once

#include <memory>
#include <string_view>

#include "base/error.hpp"

namespace mesh::datapath {

class Grace {
 public:
  virtual ~Grace() = default;
  /// Blocks for one grace period. Any thread.
  virtual base::Result<void> wait() = 0;
  [[nodiscard]] virtual std::string_view name() const = 0;  ///< "membarrier"
};

std::unique_ptr<Grace> make_membarrier_grace();
base::Result<std::unique_ptr<Grace>> make_map_grace();

/// The first of the two that works on this machine.
base::Result<std::unique_ptr<Grace>> make_grace();

}  // namespace mesh::datapath
