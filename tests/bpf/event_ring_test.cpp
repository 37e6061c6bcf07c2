// SPDX-License-Identifier: Apache-2.0
// The ring of samples, as the agent reads it.
#include "datapath/event_ring.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <vector>

#include "tests/bpf/mesh_fixture.hpp"

namespace mesh::test {
namespace {

class EventRingTest : public MeshTest {
 protected:
  void SetUp() override {
    MeshTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    server_ = udp_server();
    tables_->add_service(kVip, IPPROTO_UDP, {server_.address}, {.flags = MESH_RANGE_FEEDBACK});
  }
  datapath::EventRing open_ring() {
    auto ring = datapath::EventRing::open(mesh_->maps(), [this](const mesh_event& event) { events_.push_back(event); });
    EXPECT_TRUE(ring) << ring.error().to_string();
    return std::move(*ring);
  }
  void connections(int count) const {
    for (int i = 0; i < count; ++i) {
      const base::Fd client = open_socket(AF_INET, SOCK_DGRAM);
      EXPECT_EQ(connect_to(client, kVip), 0);
    }
  }

  const base::SocketAddress kVip = at("240.0.0.1:53");
  Server server_;
  std::vector<mesh_event> events_;
};

TEST_F(EventRingTest, each_sample_once_oldest_first) {
  auto ring = open_ring();
  EXPECT_EQ(ring.drain().value(), 0U);
  connections(3);
  EXPECT_EQ(ring.drain().value(), 3U);
  ASSERT_EQ(events_.size(), 3U);
  EXPECT_LT(events_[0].owner.cookie, events_[1].owner.cookie);
  EXPECT_LT(events_[1].owner.cookie, events_[2].owner.cookie);
  EXPECT_EQ(events_[0].owner.proto, IPPROTO_UDP);
  EXPECT_LE(events_[0].owner.start_ns, events_[0].end_ns);
  EXPECT_EQ(ring.drain().value(), 0U);
}

TEST_F(EventRingTest, what_nobody_read_is_there_for_the_next_reader) {
  connections(2);
  {
    auto gone = open_ring();
  }
  auto ring = open_ring();
  EXPECT_EQ(ring.drain().value(), 2U);
}

TEST_F(EventRingTest, a_full_ring_is_drained_whole_and_takes_samples_again) {
  ASSERT_TRUE(mesh_->detach());
  open([](datapath::DatapathOptions& options) { options.sizes.events = 4096; });
  tables_->add_service(kVip, IPPROTO_UDP, {server_.address}, {.flags = MESH_RANGE_FEEDBACK});
  auto ring = open_ring();
  constexpr int kMany = 100;  // of 160 bytes and 8 of the ring's own: more than fit
  connections(kMany);
  const std::size_t first = ring.drain().value();
  EXPECT_GT(first, 0U);
  EXPECT_EQ(first + reason(MESH_REASON_EVENTS_DROPPED), static_cast<std::uint64_t>(kMany));
  connections(1);
  EXPECT_EQ(ring.drain().value(), 1U);
  EXPECT_EQ(events_.size(), first + 1);
}

}  // namespace
}  // namespace mesh::test
