// SPDX-License-Identifier: Apache-2.0
#include "datapath/grace.hpp"

#include <bpf/bpf.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "base/fd.hpp"

namespace mesh::datapath {
namespace {

class MembarrierGrace final : public Grace {
 public:
  base::Result<void> wait() override {
    if (::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) != 0) {
      return base::fail_errno(errno, "wait for a grace period with membarrier(2)");
    }
    return {};
  }
  [[nodiscard]] std::string_view name() const override { return "membarrier"; }
};

class MapGrace final : public Grace {
 public:
  MapGrace(base::Fd outer, base::Fd inner) : outer_(std::move(outer)), inner_(std::move(inner)) {}

  base::Result<void> wait() override {
    const std::uint32_t key = 0;
    const int inner = inner_.get();
    if (bpf_map_update_elem(outer_.get(), &key, &inner, BPF_ANY) != 0) {
      return base::fail_errno(errno, "wait for a grace period by updating a map of maps");
    }
    return {};
  }
  [[nodiscard]] std::string_view name() const override { return "map-in-map"; }

 private:
  base::Fd outer_;
  base::Fd inner_;
};

}  // namespace

std::unique_ptr<Grace> make_membarrier_grace() { return std::make_unique<MembarrierGrace>(); }

base::Result<std::unique_ptr<Grace>> make_map_grace() {
  base::Fd inner(bpf_map_create(BPF_MAP_TYPE_ARRAY, "mesh_grace_in", 4, 4, 1, nullptr));
  if (!inner.valid()) return base::fail_errno(errno, "create the map for grace periods");
  LIBBPF_OPTS(bpf_map_create_opts, options, .inner_map_fd = static_cast<std::uint32_t>(inner.get()));
  base::Fd outer(bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "mesh_grace", 4, 4, 1, &options));
  if (!outer.valid()) return base::fail_errno(errno, "create the map of maps for grace periods");
  return std::make_unique<MapGrace>(std::move(outer), std::move(inner));
}

base::Result<std::unique_ptr<Grace>> make_grace() {
  const long commands = ::syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  if (commands >= 0 && (commands & MEMBARRIER_CMD_GLOBAL) != 0) return make_membarrier_grace();
  return make_map_grace();
}

}  // namespace mesh::datapath
