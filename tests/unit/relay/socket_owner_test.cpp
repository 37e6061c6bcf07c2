// SPDX-License-Identifier: Apache-2.0
#include "relay/socket_owner.hpp"

#include <gtest/gtest.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace mesh::relay {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

/// An answer as the kernel gives it: user 1000, cgroup 77.
struct Answer {
  nlmsghdr header{
      .nlmsg_len = sizeof(Answer), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = 0, .nlmsg_seq = 5, .nlmsg_pid = 9};
  inet_diag_msg message{};
  rtattr attribute{.rta_len = RTA_LENGTH(sizeof(std::uint64_t)), .rta_type = INET_DIAG_CGROUP_ID};
  std::uint32_t cgroup[2] = {77, 0};

  explicit Answer(const OwnerQuestion& question, std::uint8_t family = AF_INET) {
    message.idiag_family = family;
    message.idiag_state = TCP_ESTABLISHED;
    const std::size_t skipped = family == AF_INET ? 12 : 0;
    std::memcpy(message.id.idiag_src, question.own.ip.bytes.data() + skipped, 16 - skipped);
    std::memcpy(message.id.idiag_dst, question.peer.ip.bytes.data() + skipped, 16 - skipped);
    message.id.idiag_sport = htons(question.own.port);
    message.id.idiag_dport = htons(question.peer.port);
    message.idiag_uid = 1000;
    message.idiag_inode = 4711;
  }
};

OwnerQuestion question_of(const char* own, const char* peer) {
  return {*base::SocketAddress::parse(own), *base::SocketAddress::parse(peer), 5};
}

/// "77 1000", "77 closed", "not found", "error", or "" where it is no answer.
template <typename Message>
std::string read(const Message& message, const OwnerQuestion& question, std::uint32_t sender = 0) {
  const auto answer = read_owner({reinterpret_cast<const char*>(&message), sizeof(message)}, sender, question);
  if (!answer) return "";
  if (!*answer) return (*answer).error().kind == base::ErrorKind::kNotFound ? "not found" : "error";
  return std::to_string((*answer)->cgroup) + " " + ((*answer)->uid ? std::to_string(*(*answer)->uid) : "closed");
}

const OwnerQuestion kQuestion = question_of("127.0.0.1:40000", "127.0.0.1:15400");

TEST(ReadOwner, of_a_socket_of_either_family) {
  EXPECT_EQ(read(Answer(kQuestion), kQuestion), "77 1000");
  EXPECT_EQ(read(Answer(kQuestion, AF_INET6), kQuestion), "77 1000") << "v4-mapped";
  const OwnerQuestion six = question_of("[::1]:40000", "[::1]:15400");
  EXPECT_EQ(read(Answer(six, AF_INET6), six), "77 1000");
  Answer closed(kQuestion);
  closed.message.idiag_state = TCP_FIN_WAIT2;
  closed.message.idiag_inode = 0;
  closed.message.idiag_uid = 0;
  EXPECT_EQ(read(closed, kQuestion), "77 closed") << "and not root";
}

TEST(ReadOwner, only_what_the_kernel_says_to_that_question) {
  EXPECT_EQ(read(Answer(kQuestion), kQuestion, 4242), "") << "of another process";
  Answer other(kQuestion);
  other.header.nlmsg_seq = 4;
  EXPECT_EQ(read(other, kQuestion), "");
  other = Answer(kQuestion);
  other.header.nlmsg_type = NLMSG_DONE;
  EXPECT_EQ(read(other, kQuestion), "");
  other = Answer(kQuestion);
  other.header.nlmsg_len = sizeof(nlmsghdr) + sizeof(inet_diag_msg) - 4;
  EXPECT_EQ(read(other, kQuestion), "");
  other.header.nlmsg_len = sizeof(other) + 4;
  EXPECT_EQ(read(other, kQuestion), "") << "cut off";
}

TEST(ReadOwner, of_no_other_socket) {
  for (const OwnerQuestion& other :
       {question_of("127.0.0.1:40001", "127.0.0.1:15400"), question_of("127.0.0.1:40000", "127.0.0.1:15401"),
        question_of("127.0.0.2:40000", "127.0.0.1:15400"), question_of("127.0.0.1:40000", "127.0.0.2:15400")}) {
    EXPECT_EQ(read(Answer(other), kQuestion), "not found") << other.own.to_string() << " " << other.peer.to_string();
  }
  EXPECT_EQ(read(Answer(question_of("[7f00:1::]:40000", "[7f00:1::]:15400"), AF_INET6), kQuestion), "not found");
  for (const std::uint8_t state : {TCP_LISTEN, TCP_SYN_SENT, TCP_CLOSE, TCP_TIME_WAIT}) {
    Answer answer(kQuestion);
    answer.message.idiag_state = state;
    EXPECT_EQ(read(answer, kQuestion), "not found") << int{state};
  }
}

TEST(ReadOwner, errors_say_what_they_are) {
  struct {
    nlmsghdr header{.nlmsg_len = sizeof(nlmsghdr) + sizeof(nlmsgerr),
                    .nlmsg_type = NLMSG_ERROR,
                    .nlmsg_flags = 0,
                    .nlmsg_seq = 5,
                    .nlmsg_pid = 9};
    nlmsgerr error{.error = -ENOENT, .msg = {}};
  } message;
  EXPECT_EQ(read(message, kQuestion), "not found");
  message.error.error = -EPERM;
  EXPECT_EQ(read(message, kQuestion), "error");
  Answer old(kQuestion);
  old.attribute.rta_type = INET_DIAG_MARK;
  EXPECT_EQ(read(old, kQuestion), "error") << "a kernel that does not say the cgroup";
}

class CgroupNamesTest : public ::testing::Test {
 protected:
  CgroupNamesTest() {
    EXPECT_NE(::mkdtemp(root_.data()), nullptr);
    names_.emplace(root_);
  }
  ~CgroupNamesTest() override { fs::remove_all(root_); }
  std::uint64_t make(const std::string& path) const {
    fs::create_directories(root_ + path);
    struct stat status{};
    EXPECT_EQ(::stat((root_ + path).c_str(), &status), 0);
    return status.st_ino;
  }

  std::string root_ = fs::temp_directory_path() / "mesh-cgroups-XXXXXX";
  std::optional<CgroupNames> names_;
  base::TimePoint now_{1h};
};

TEST_F(CgroupNamesTest, are_paths_below_the_mount) {
  const auto pod = make("/apps/pod");
  EXPECT_EQ(names_->path(pod, now_), "/apps/pod");
  EXPECT_EQ(names_->path(make(""), now_), "/");
  EXPECT_EQ(names_->path(make("/later/one"), now_), "/later/one");
  fs::remove(root_ + "/apps/pod");
  EXPECT_EQ(names_->path(pod, now_), "/apps/pod") << "an id is never given again";
}

TEST_F(CgroupNamesTest, an_id_that_is_unknown_is_not_looked_for_again_soon) {
  constexpr int kManyTimes = 1000;
  const auto pod = make("/pod");
  fs::rename(root_ + "/pod", root_ + "-away");
  for (int i = 0; i < kManyTimes; ++i) EXPECT_EQ(names_->path(pod, now_), "");
  fs::rename(root_ + "-away", root_ + "/pod");
  EXPECT_EQ(names_->path(pod, now_ + CgroupNames::kUnknownFor - 1ms), "");
  EXPECT_EQ(names_->path(make("/other"), now_), "/other") << "that took one walk only";
}

TEST_F(CgroupNamesTest, walks_have_a_rate_whoever_asks) {
  constexpr std::uint64_t kAbsent = ~0ULL;
  for (int i = 0; i < CgroupNames::kWalkBurst; ++i) EXPECT_EQ(names_->path(kAbsent - i, now_), "");
  const auto pod = make("/pod");
  EXPECT_EQ(names_->path(pod, now_), "") << "for now";
  EXPECT_EQ(names_->path(pod, now_ + CgroupNames::kWalkEvery - 1ms), "");
  EXPECT_EQ(names_->path(pod, now_ + CgroupNames::kWalkEvery), "/pod");
  EXPECT_EQ(names_->path(make("/next"), now_ + CgroupNames::kWalkEvery), "");
  EXPECT_EQ(names_->path(pod, now_ + CgroupNames::kWalkEvery), "/pod") << "what is known takes no walk";
}

}  // namespace
}  // namespace mesh::relay
