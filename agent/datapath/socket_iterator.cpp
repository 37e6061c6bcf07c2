// SPDX-License-Identifier: Apache-2.0
#include "datapath/socket_iterator.hpp"

#include <bpf/bpf.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace mesh::datapath {
namespace {

constexpr std::size_t kRead = 32 << 10;  // as the kernel hands it out

}  // namespace

base::Result<SocketIterator> SocketIterator::make(int program) {
  base::Fd link(::bpf_link_create(program, 0, BPF_TRACE_ITER, nullptr));
  if (!link.valid()) return base::fail_errno(errno, "make an iterator over sockets");
  return SocketIterator(std::move(link));
}

base::Result<void> SocketIterator::run(const Take& take) const {
  const base::Fd iterator(::bpf_iter_create(link_.get()));
  if (!iterator.valid()) return base::fail_errno(errno, "open an iterator over sockets");
  std::vector<std::byte> bytes(kRead);
  while (true) {
    const ssize_t size = ::read(iterator.get(), bytes.data(), bytes.size());
    if (size == 0) return {};
    if (size > 0) {
      take({bytes.data(), static_cast<std::size_t>(size)});
    } else if (errno != EAGAIN && errno != EINTR) {  // EAGAIN: so many that the kernel wants to be asked again
      return base::fail_errno(errno, "walk sockets");
    }
  }
}

}  // namespace mesh::datapath
