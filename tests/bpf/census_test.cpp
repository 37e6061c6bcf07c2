// SPDX-License-Identifier: Apache-2.0
// Records that lost their socket without sock_release, and all the kinds of sockets that only look as if.
#include "datapath/census.hpp"

#include <bpf/bpf.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "datapath/book_audit.hpp"
#include "datapath/counters.hpp"
#include "datapath/owners.hpp"
#include "tests/bpf/mesh_fixture.hpp"

namespace mesh::test {
namespace {

constexpr int kMptcp = 262;  // IPPROTO_MPTCP

class CensusTest : public MeshTest, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    MeshTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    if (!mesh_->features().census) GTEST_SKIP() << "SKIPPED: this kernel has no iterators over sockets and files";
    server_ = tcp_server();
    udp_ = udp_server();
    range_.flags = GetParam() ? MESH_RANGE_FEEDBACK : 0;
    tables_->add_service(kService, IPPROTO_TCP, {server_.address}, range_);
    tables_->add_service(kService, IPPROTO_UDP, {udp_.address}, range_);
    tables_->add_service(kClosed, IPPROTO_TCP, {at("127.0.0.1:1")}, range_);
  }

  base::Fd connected(int type, int protocol = 0) const {
    base::Fd fd = open_socket(AF_INET, type, protocol);
    EXPECT_EQ(connect_to(fd, kService), 0);
    return fd;
  }
  std::vector<mesh_owner> records() const {
    std::vector<mesh_owner> found;
    const auto memory = datapath::OwnerMemory::map(mesh_->maps(), datapath::Access::kRead);
    memory->for_each([&](const mesh_owner& record) { found.push_back(record); });
    return found;
  }
  /// From now on sockets close unseen.
  void take_release_hook_away() const {
    for (const auto& hook : mesh_->hooks()) {
      if (hook.hook != "release") continue;
      const base::Fd link(::bpf_link_get_fd_by_id(hook.link_id));
      ASSERT_EQ(::bpf_link_detach(link.get()), 0);
    }
  }
  datapath::StaleRecords::Verdict look() {
    const auto census = mesh_->make_census();
    EXPECT_TRUE(census) << census.error().to_string();
    const auto pass = census->pass(records());
    EXPECT_TRUE(pass) << pass.error().to_string();
    return stale_.look(records(), *pass);
  }

  const base::SocketAddress kService = at("240.0.0.1:80");
  const base::SocketAddress kClosed = at("240.0.0.2:80");
  Server server_, udp_;
  RangeSpec range_;
  datapath::StaleRecords stale_;
};

TEST_P(CensusTest, exactly_the_records_without_a_socket_are_freed_and_their_books_closed) {
  std::vector<base::Fd> living;
  living.push_back(connected(SOCK_STREAM));
  living.push_back(connected(SOCK_DGRAM));
  living.push_back(open_socket(AF_INET, SOCK_STREAM));  // refused: it has no address any more
  EXPECT_EQ(connect_to(living.back(), kClosed), ECONNREFUSED);
  living.push_back(connected(SOCK_DGRAM));  // its record lies
  EXPECT_EQ(disconnect(living.back()), 0);
  {
    living.push_back(connected(SOCK_STREAM));  // closed at both ends, and open
    ASSERT_EQ(::shutdown(living.back().get(), SHUT_WR), 0);
    while (true) {
      const base::Fd accepted(::accept(server_.fd.get(), nullptr, nullptr));
      ASSERT_TRUE(accepted.valid());
      pollfd closing{accepted.get(), POLLRDHUP, 0};
      if (::poll(&closing, 1, 200) == 1) break;
    }
    char nothing = 0;
    EXPECT_EQ(::read(living.back().get(), &nothing, 1), 0);
  }
  living.push_back(open_socket(AF_INET, SOCK_STREAM, kMptcp));
  if (living.back().valid()) {
    EXPECT_EQ(connect_to(living.back(), kService), 0);
    living.push_back(open_socket(AF_INET, SOCK_STREAM, kMptcp));  // only its storage leads to the record
    EXPECT_EQ(connect_to(living.back(), kClosed), ECONNREFUSED);
  }
  {
    const NetNs lost;  // nobody is in there; the open file is what leads to the socket
    const Server server = tcp_server();
    tables_->add_service(at("240.0.0.3:80"), IPPROTO_TCP, {server.address}, range_);
    living.push_back(open_socket(AF_INET, SOCK_STREAM));
    EXPECT_EQ(connect_to(living.back(), at("240.0.0.3:80")), 0);
  }
  const std::size_t living_records = records().size();
  base::Fd gone = connected(SOCK_STREAM);
  const linger at_once{1, 0};  // no half-closed socket that nobody has open and that lives all the same
  ASSERT_EQ(::setsockopt(gone.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
  base::Fd gone_udp = connected(SOCK_DGRAM);
  const std::size_t all = records().size();
  ASSERT_EQ(all, living_records + 2);
  take_release_hook_away();
  gone.reset();
  gone_udp.reset();
  ASSERT_EQ(records().size(), all) << "the records are left behind";

  EXPECT_EQ(look().gone.size(), 0U) << "missed once";
  const auto verdict = look();
  EXPECT_EQ(verdict.gone.size(), 2U);
  const auto closed_before = datapath::read_backend_live(mesh_->maps(), 1).closed;
  const auto freed = datapath::free_records(mesh_->maps(), verdict.gone);
  ASSERT_TRUE(freed) << freed.error().to_string();
  EXPECT_EQ(*freed, 2U);
  EXPECT_EQ(records().size(), living_records);
  EXPECT_EQ(datapath::read_backend_live(mesh_->maps(), 1).closed, closed_before + 1);
  const auto differences = datapath::compare_books(mesh_->maps());
  ASSERT_TRUE(differences);
  EXPECT_TRUE(differences->empty());
  look();
  EXPECT_EQ(look().gone.size(), 0U) << "what is left lives";
}

TEST_P(CensusTest, a_record_out_of_reach_is_counted_and_left) {
  if (!GetParam()) GTEST_SKIP() << "SKIPPED: without feedback a record does not say where it is";
  base::Fd socket = connected(SOCK_STREAM);
  take_release_hook_away();
  socket.reset();
  mesh_owner elsewhere = records().at(0);
  elsewhere.netns_cookie = 0xffffffff;
  const auto memory = datapath::OwnerMemory::map(mesh_->maps(), datapath::Access::kWrite);
  ASSERT_TRUE(memory->put(elsewhere));
  for (int i = 0; i < 3; ++i) {
    const auto verdict = look();
    EXPECT_EQ(verdict.gone.size(), 0U);
    EXPECT_EQ(verdict.unreachable, 1U);
  }
}

TEST_P(CensusTest, a_record_that_is_another_connections_by_now_is_not_freed) {
  const base::Fd socket = connected(SOCK_STREAM);
  auto before = records();
  ASSERT_EQ(disconnect(socket), 0);
  ASSERT_EQ(connect_to(socket, kService), 0);
  before.at(0).start_ns -= 1;
  EXPECT_EQ(datapath::free_records(mesh_->maps(), before).value(), 0U);
  EXPECT_EQ(records().size(), 1U);
}

INSTANTIATE_TEST_SUITE_P(With, CensusTest, ::testing::Bool(),
                         [](const auto& way) { return way.param ? "feedback" : "no_feedback"; });

}  // namespace
}  // namespace mesh::test
