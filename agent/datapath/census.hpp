// SPDX-License-Identifier: Apache-2.0
// Records whose socket is gone. sock_release ends a record with its socket, but not every socket passes it: those of
// the kernel itself (NFS, iSCSI) don't, nor does one whose cgroup was taken out of the configuration while it was open;
// and a kernel may miss one in millions (docs/decisions/0002-owner-record.md).
//
// A socket lives if it has an address in its network namespace, or is an open file of a process, wherever that is
// (bpf/census.bpf.c). One that is missed in two passes, minutes apart, is gone, and its record is freed and its
// connection counted as closed. Whatever can't be looked for is left and counted: sockets in namespaces that can't be
// entered. A living socket that neither has an address nor is an open file (refused or closed at both ends, and kept by
// io_uring or a message under way only) has nothing to lose: it is connected to nobody.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/error.hpp"
#include "datapath/maps.hpp"
#include "datapath/socket_iterator.hpp"

namespace mesh::datapath {

/// What one pass met.
struct CensusPass {
  std::unordered_set<std::uint64_t> met;      ///< Cookies, of records among others.
  std::unordered_set<std::uint64_t> visited;  ///< Cookies of namespaces.
};

/// Descriptors of somebody else's; of iterators.
struct CensusPrograms {
  int tcp = -1;
  int udp = -1;
  int files = -1;
};

class Census {
 public:
  static base::Result<Census> make(CensusPrograms programs);

  /// Looks for the sockets of these records; blocks for a walk over the sockets of their namespaces and, if some are
  /// missed there, over all open files. kUnsupported where not all processes can be seen: nothing can be concluded.
  [[nodiscard]] base::Result<CensusPass> pass(std::span<const mesh_owner> records) const;

 private:
  SocketIterator tcp_;
  SocketIterator udp_;
  SocketIterator files_;
};

/// Decides what is gone. Pure.
class StaleRecords {
 public:
  struct Verdict {
    std::vector<mesh_owner> gone;
    std::size_t unreachable = 0;  ///< Records whose sockets were not met and can't be looked for.
  };
  Verdict look(std::span<const mesh_owner> records, const CensusPass& pass);

 private:
  std::unordered_map<std::uint64_t, std::uint64_t> missed_;  ///< In the last pass: cookie -> start_ns.
};

}  // namespace mesh::datapath
