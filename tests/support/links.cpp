// SPDX-License-Identifier: Apache-2.0
#include "tests/support/links.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <map>
#include <stdexcept>

#include "base/address.hpp"

namespace mesh::test {
namespace {

const std::map<std::string, std::uint32_t> kAttachTypes{
    {"connect4", BPF_CGROUP_INET4_CONNECT},         {"connect6", BPF_CGROUP_INET6_CONNECT},
    {"sendmsg4", BPF_CGROUP_UDP4_SENDMSG},          {"sendmsg6", BPF_CGROUP_UDP6_SENDMSG},
    {"recvmsg4", BPF_CGROUP_UDP4_RECVMSG},          {"recvmsg6", BPF_CGROUP_UDP6_RECVMSG},
    {"getpeername4", BPF_CGROUP_INET4_GETPEERNAME}, {"getpeername6", BPF_CGROUP_INET6_GETPEERNAME},
    {"sock_release", BPF_CGROUP_INET_SOCK_RELEASE}};

}  // namespace

std::vector<std::uint32_t> links_on(const std::string& cgroup_folder, const std::string& hook) {
  struct stat info{};
  if (::stat(cgroup_folder.c_str(), &info) != 0) return {};
  std::vector<std::uint32_t> found;
  for (std::uint32_t id = 0; ::bpf_link_get_next_id(id, &id) == 0;) {
    const base::Fd fd(::bpf_link_get_fd_by_id(id));
    bpf_link_info link{};
    std::uint32_t size = sizeof link;
    if (!fd.valid() || ::bpf_obj_get_info_by_fd(fd.get(), &link, &size) != 0) continue;
    if (link.type != BPF_LINK_TYPE_CGROUP || link.cgroup.cgroup_id != info.st_ino) continue;
    if (hook.empty() || link.cgroup.attach_type == kAttachTypes.at(hook)) found.push_back(id);
  }
  return found;
}

void detach_link(const std::string& cgroup_folder, const std::string& hook) {
  const auto links = links_on(cgroup_folder, hook);
  if (links.empty()) throw std::runtime_error("no link of " + hook + " on " + cgroup_folder);
  for (const std::uint32_t id : links) {
    const base::Fd fd(::bpf_link_get_fd_by_id(id));
    if (::bpf_link_detach(fd.get()) != 0) throw std::runtime_error("detach link " + std::to_string(id));
  }
}

DenyAll::DenyAll(const std::string& cgroup_folder, const std::string& hook) {
  constexpr std::array<bpf_insn, 2> kReturnZero{
      bpf_insn{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
      bpf_insn{.code = BPF_JMP | BPF_EXIT}};
  const auto attach_type = static_cast<bpf_attach_type>(kAttachTypes.at(hook));
  bpf_prog_load_opts options{};
  options.sz = sizeof options;
  options.expected_attach_type = attach_type;
  const base::Fd program(::bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "deny_all", "GPL", kReturnZero.data(),
                                         kReturnZero.size(), &options));
  const base::Fd cgroup(::open(cgroup_folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  link_.reset(::bpf_link_create(program.get(), cgroup.get(), attach_type, nullptr));
  if (!link_.valid()) throw std::runtime_error("attach a program that denies " + hook + " to " + cgroup_folder);
}

bool remove_empty_cgroup(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.is_directory(error) && !remove_empty_cgroup(entry.path())) return false;
  }
  return ::rmdir(folder.c_str()) == 0;
}

int hold_open(const std::string& address, std::uint16_t port, int count) {
  const auto ip = base::IpAddress::parse(address);
  sockaddr_storage storage{};
  const socklen_t length = base::SocketAddress{*ip, port}.to_sockaddr(storage);
  for (int i = 0; i < count; ++i) {
    const int fd = ::socket(storage.ss_family, SOCK_STREAM, 0);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&storage), length) != 0) return errno;
  }
  while (true) ::pause();
}

}  // namespace mesh::test
