// SPDX-License-Identifier: Apache-2.0
// Turns an image into loaded programs on a set of maps. The only file that handles bpf_object.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "datapath/image.hpp"
#include "datapath/maps.hpp"
#include "mesh_config.h"

struct bpf_object;

namespace mesh::datapath {

/// What the running kernel allows; decided by asking the kernel, not by its version.
struct KernelFeatures {
  /// Programs that the kernel should take, by what it has, and did not.
  struct Refusal {
    std::string feature;  ///< "kill"
    std::string why;      ///< The verifier's last words.
  };
  bool retval = false;          ///< bpf_set_retval: refusals are ECONNREFUSED (else EPERM), earlier denials are seen.
  bool mptcp = false;           ///< bpf_skc_to_mptcp_sock
  bool explain = false;         ///< Syscall programs.
  bool kernel_context = false;  ///< bpf_cast_to_kern_ctx and bpf_rdonly_cast: sockets are read directly
  bool kernel_read = false;     ///< bpf_probe_read_kernel: they are copied
  bool kill = false;            ///< The iterators of kill.bpf.c, with bpf_sock_destroy.
  bool census = false;          ///< The iterators of census.bpf.c.
  bool guard = false;           ///< guard.bpf.c: plaintext to workloads of the mesh is seen and can be refused.
  bool tracing = false;  ///< The programs of tracers.hpp. Without: no connect latency, errors are guessed at close.
  std::vector<Refusal> refused;

  /// Programs learn from the socket itself what became of its connection, and whether it ever had one.
  [[nodiscard]] bool sees_sockets() const { return kernel_context || kernel_read; }
};
/// Loads each program of `image` that the mesh can do without, on tables of its own: some 50 ms.
KernelFeatures probe_kernel_features(ProgramImage image);

class Programs {
 public:
  /// Reads the image and gives its maps their sizes; nothing is loaded yet.
  static base::Result<Programs> open(ProgramImage image, const TableSizes& sizes);
  /// Loads these programs alone, on maps that hold next to nothing.
  static base::Result<Programs> open_some(ProgramImage image, const KernelFeatures& features,
                                          std::span<const std::string_view> wanted);

  /// The layout the image was compiled with.
  [[nodiscard]] const mesh_config& config() const { return config_; }
  [[nodiscard]] const KernelFeatures& features() const { return features_; }
  /// The shape its maps will have.
  [[nodiscard]] MapShape shape(Table table) const;

  /// Uses an existing map instead of making one.
  base::Result<void> reuse(Table table, int fd);
  /// Also loads the programs that read and forget owner records in these maps too (mesh_mv_*). One or two.
  base::Result<void> with_previous_owners(const std::vector<const MapSet*>& left);
  base::Result<void> load();

  [[nodiscard]] const bpf_object* object() const { return object_.get(); }
  /// -1 if there is no such program or it was not loaded.
  [[nodiscard]] int program_fd(std::string_view name) const;
  /// Of a map that belongs to the programs and to no MapSet; -1 likewise.
  [[nodiscard]] int map_fd(std::string_view name) const;

 private:
  struct Close {
    void operator()(bpf_object* object) const;
  };
  static base::Result<Programs> open_as(ProgramImage image, const TableSizes& sizes, KernelFeatures features);
  base::Result<void> write_config();

  std::unique_ptr<bpf_object, Close> object_;
  mesh_config config_{};
  KernelFeatures features_;
};

}  // namespace mesh::datapath
