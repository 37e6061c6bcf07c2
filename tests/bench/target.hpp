// SPDX-License-Identifier: Apache-2.0
// One side of a comparison: a process of its own, in its own network namespace and cgroup, on one CPU, that connects
// in short blocks when it is told to and says how long a block took. Kept alive for the whole run, so that a block
// costs no fork and no move between cgroups.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"

namespace mesh::bench {

enum class Mode : std::uint8_t {
  kBare,      ///< socket, connect, close with reset. Nobody accepts while the clock runs.
  kConnect,   ///< socket, connect, close; the server, on the same CPU, accepts and closes, and that counts too.
  kExchange,  ///< connect, one byte there and back, close with reset.
  kRequest,   ///< 64 bytes there and back on one connection.
  kBulk,      ///< writes of 64 KiB on one connection until the peer has counted them all.
};

inline constexpr std::size_t kRequestBytes = 64;
inline constexpr std::size_t kBulkWriteBytes = 65536;

base::Result<Mode> mode_from(std::string_view text);

struct TargetSpec {
  std::string name;
  std::string netns;                    ///< Path for setns(2); empty: where the benchmark was started.
  std::string cgroup;                   ///< Folder with cgroup.procs; empty: where the benchmark was started.
  std::string baseline;                 ///< Name of the target its blocks are divided by; empty: itself.
  std::vector<base::SocketAddress> to;  ///< Taken in turn.
  bool getpeername = false;             ///< Also asks for the peer's address after connect().
  unsigned settle_ms = 0;               ///< Rest after a block, for a peer that works on after close().

  /// From "name=N,to=A:P+A:P[,netns=PATH][,cgroup=PATH][,baseline=N][,getpeername=1][,settle_ms=N]".
  static base::Result<TargetSpec> parse(std::string_view text);
};

struct Block {
  std::int64_t elapsed_ns = 0;
  std::uint32_t done = 0;
  std::uint32_t failed = 0;
  std::int32_t last_errno = 0;
  std::uint32_t zero = 0;
};

/// The process behind a TargetSpec. Ends with its object.
class Target {
 public:
  /// kRequest and kBulk connect here and fail here.
  static base::Result<Target> start(const TargetSpec& spec, Mode mode, int cpu);
  Target(Target&& other) noexcept;
  Target& operator=(Target&&) = delete;
  ~Target();

  /// Runs one block of `count` repetitions and waits for it.
  base::Result<Block> run(std::uint32_t count);
  [[nodiscard]] const TargetSpec& spec() const { return spec_; }

 private:
  Target(TargetSpec spec, pid_t pid, base::Fd channel)
      : spec_(std::move(spec)), pid_(pid), channel_(std::move(channel)) {}
  TargetSpec spec_;
  pid_t pid_;
  base::Fd channel_;
};

/// Pins the calling thread; -1 leaves it alone.
base::Result<void> pin_to_cpu(int cpu);
/// Moves the calling thread into a network namespace; an empty path leaves it where it is.
base::Result<void> enter_netns(const std::string& path);

}  // namespace mesh::bench
