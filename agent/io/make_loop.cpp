// SPDX-License-Identifier: Apache-2.0
#include "io/epoll_loop.hpp"
#include "io/uring_loop.hpp"

namespace mesh::io {
namespace {

base::Result<LoopChoice> make_epoll(std::string reason) {
  return LoopChoice{MESH_TRY(EpollLoop::make()), std::move(reason)};
}

}  // namespace

base::Result<LoopChoice> make_loop(LoopKind kind, unsigned entries) {
  if (kind == LoopKind::kEpoll) return make_epoll("epoll: configured");
  auto uring = UringLoop::make(entries);
  if (uring) return LoopChoice{*std::move(uring), "io_uring: available"};
  if (kind == LoopKind::kUring) return std::unexpected(std::move(uring).error());
  return make_epoll("epoll: " + uring.error().to_string());
}

}  // namespace mesh::io
