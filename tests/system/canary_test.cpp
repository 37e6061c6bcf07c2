// SPDX-License-Identifier: Apache-2.0
// How the canary's process gets into the leaf: born there, or moved there where clone3 is missing or forbidden.
#include "datapath/canary.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>

#include "tests/support/lab.hpp"

namespace mesh::test {
namespace {

/// What container runtimes do that do not know clone3.
bool forbid_clone3(int errnum) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(errnum)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{.len = std::size(code), .filter = code};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return false;
  return ::syscall(SYS_clone3, nullptr, 0) == -1 && errno == errnum;
}

/// Empty too when the folder is gone.
std::string processes_in(const std::string& cgroup) {
  std::ifstream file(cgroup + "/cgroup.procs");
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(CanaryChildTest, checks_from_inside_the_leaf_with_and_without_clone3) {
  if (const std::string why = Lab::unavailable(); !why.empty()) GTEST_SKIP() << why;
  Lab lab;
  const std::string cgroup = lab.cgroup("apps");
  const std::string leaf = fmt::format("{}/{}", cgroup, datapath::kCanaryLeaf);
  const base::Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof(address);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);

  for (const int errnum : {0, ENOSYS, EPERM}) {
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    const base::Fd ours(pair[0]);
    base::Fd theirs(pair[1]);
    auto child = Process::start({}, [&] {
      if (errnum != 0 && !forbid_clone3(errnum)) return 9;
      return datapath::run_canary_child(theirs.get());
    });
    theirs.reset();
    // The fields of a request; UDP finds nobody here, which is as good an answer as any.
    const std::string request = fmt::format("{}\t127.0.0.1:{}\t-\ttoken", leaf, ntohs(address.sin_port));
    ASSERT_EQ(::send(ours.get(), request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
    pollfd waiting{.fd = listener.get(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(::poll(&waiting, 1, 5000), 1) << "nobody connects; errno of clone3 " << errnum;
    const base::Fd connection(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_NE(processes_in(leaf), "") << "who connects is in the leaf; errno of clone3 " << errnum;
    EXPECT_EQ(processes_in(cgroup), "");
    ASSERT_EQ(::send(connection.get(), "token", 5, MSG_NOSIGNAL), 5);
    pollfd answering{.fd = ours.get(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(::poll(&answering, 1, 5000), 1);
    char answer[1024];
    const ssize_t count = ::recv(ours.get(), answer, sizeof(answer), 0);
    ASSERT_GT(count, 0) << "errno of clone3 " << errnum;
    EXPECT_TRUE(std::string_view(answer, static_cast<std::size_t>(count)).starts_with("\t0\t\t2\t"))
        << "tcp4 is well: " << std::string_view(answer, static_cast<std::size_t>(count));
    EXPECT_FALSE(std::filesystem::exists(leaf)) << "nothing is left behind";
  }
}

}  // namespace
}  // namespace mesh::test
