// SPDX-License-Identifier: Apache-2.0
#include "discovery/zookeeper_watch.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "base/random.hpp"

namespace mesh::discovery {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

/// The tree of a ZooKeeper with the watches of one session: each set by a read, and gone with its event.
class FakeTree {
 public:
  std::map<std::string, std::string> nodes;  // path to data; parents are there without being said

  void set(const std::string& path, const std::string& data) {
    const bool fresh = !there(path);
    nodes[path] = data;
    fire(path, fresh ? ZookeeperEvent::kCreated : ZookeeperEvent::kDataChanged);
    if (fresh) children_changed(path);
  }
  void remove(const std::string& path) {
    nodes.erase(path);
    fire(path, ZookeeperEvent::kDeleted);
    children_changed(path);
  }
  [[nodiscard]] bool there(const std::string& path) const {
    return std::ranges::any_of(nodes,
                               [&](const auto& one) { return one.first == path || one.first.starts_with(path + "/"); });
  }
  ZookeeperAnswer read(const ZookeeperWatch::Ask& ask) {
    ZookeeperAnswer answer;
    if (!there(ask.path)) answer.error = zookeeper_error::kNoNode;
    if (there(ask.path) || ask.what == ZookeeperRead::kExists) {
      watches.emplace(ask.path, ask.what == ZookeeperRead::kChildren);
    }
    if (answer.error != 0) return answer;
    if (ask.what == ZookeeperRead::kData) answer.data = nodes[ask.path];
    if (ask.what != ZookeeperRead::kChildren) return answer;
    std::set<std::string> names;
    for (const auto& [path, data] : nodes) {
      if (!path.starts_with(ask.path + "/")) continue;
      const std::string rest = path.substr(ask.path.size() + 1);
      names.insert(rest.substr(0, rest.find('/')));
    }
    answer.children.assign(names.begin(), names.end());
    return answer;
  }

  std::set<std::pair<std::string, bool>> watches;  // path, of its children
  std::vector<ZookeeperNews> events;

 private:
  void children_changed(const std::string& path) {
    const std::string parent = path.substr(0, path.rfind('/'));
    if (!watches.erase({parent, true})) return;
    events.push_back({static_cast<std::int32_t>(ZookeeperEvent::kChildrenChanged), parent});
  }
  void fire(const std::string& path, ZookeeperEvent event) {
    const bool data = watches.erase({path, false}) > 0;
    const bool children = event == ZookeeperEvent::kDeleted && watches.erase({path, true}) > 0;
    if (data || children) events.push_back({static_cast<std::int32_t>(event), path});
  }
};

class ZookeeperWatchTest : public testing::Test {
 protected:
  void make(std::vector<ZookeeperRule> rules, std::string chroot = {}) {
    ZookeeperSettings settings;
    settings.services = std::move(rules);
    settings.chroot = std::move(chroot);
    watch_.emplace(settings, ServicePolicy{});
    watch_->restart();
  }
  static ZookeeperRule rule(std::string match, ZookeeperLayout layout = ZookeeperLayout::kNerve,
                            std::string path = "/s") {
    ZookeeperRule one;
    one.match = std::move(match);
    one.layout = layout;
    one.path = std::move(path);
    return one;
  }
  static std::string nerve(const std::string& host, int port = 80) {
    return R"({"host":")" + host + R"(","port":)" + std::to_string(port) + "}";
  }
  void answer(const ZookeeperWatch::Ask& ask) {
    const ZookeeperAnswer answer = tree_.read(ask);
    ASSERT_TRUE(watch_->answered(ask, answer));
  }
  /// Tells of events and answers all reads until nothing is left.
  void settle() {
    for (int round = 0; round < 100; ++round) {
      for (const auto& news : std::exchange(tree_.events, {})) watch_->happened(news);
      const auto asks = watch_->take_asks(3);
      if (asks.empty()) break;
      for (const auto& ask : asks) answer(ask);
    }
    EXPECT_TRUE(watch_->is_settled());
  }
  /// "orders 10.0.0.1:80; pay" of an update; "nothing": there is none.
  std::string update() {
    const auto services = watch_->take_update();
    if (!services) return "nothing";
    std::string text;
    for (const auto& service : *services) {
      text += (text.empty() ? "" : "; ") + service->name;
      for (const auto& endpoint : service->endpoints) text += " " + endpoint.address.to_string();
    }
    return text;
  }
  std::string settled() {
    settle();
    return update();
  }

  FakeTree tree_;
  std::optional<ZookeeperWatch> watch_;
};

TEST_F(ZookeeperWatchTest, a_pattern_follows_services_and_instances) {
  tree_.nodes = {
      {"/s/orders/a", nerve("10.0.0.1")}, {"/s/pay/a", nerve("10.0.1.1")}, {"/s/other/a", nerve("10.0.2.1")}};
  make({rule("*a*"), rule("orders")});
  EXPECT_EQ(update(), "nothing") << "not before all is known";
  EXPECT_EQ(settled(), "orders 10.0.0.1:80; pay 10.0.1.1:80");
  EXPECT_EQ(settled(), "nothing");
  tree_.set("/s/orders/b", nerve("10.0.0.2"));
  EXPECT_EQ(settled(), "orders 10.0.0.1:80 10.0.0.2:80; pay 10.0.1.1:80");
  tree_.set("/s/orders/a", nerve("10.0.0.9"));
  EXPECT_EQ(settled(), "orders 10.0.0.2:80 10.0.0.9:80; pay 10.0.1.1:80");
  tree_.remove("/s/orders/b");
  tree_.remove("/s/pay/a");
  tree_.remove("/s/pay");
  EXPECT_EQ(settled(), "orders 10.0.0.9:80");
  tree_.set("/s/pay", "");
  tree_.set("/s/pay/a", nerve("10.0.1.2"));
  EXPECT_EQ(settled(), "orders 10.0.0.9:80; pay 10.0.1.2:80");
}

TEST_F(ZookeeperWatchTest, without_rules_nothing_is_read) {
  tree_.nodes = {{"/services/orders/a", "{}"}};
  make({});
  EXPECT_THAT(watch_->take_asks(100), IsEmpty());
  EXPECT_EQ(update(), "");
}

TEST_F(ZookeeperWatchTest, folders_that_are_missing_are_found_when_they_come_and_come_again) {
  make({rule("orders"), rule("pay*")});
  EXPECT_EQ(settled(), "") << "an instance has to say the port first";
  tree_.set("/s", "");
  EXPECT_EQ(settled(), "nothing");
  tree_.set("/s/orders", "");
  tree_.set("/s/orders/a", nerve("10.0.0.1"));
  EXPECT_EQ(settled(), "orders 10.0.0.1:80");
  tree_.remove("/s/orders/a");
  EXPECT_EQ(settled(), "orders") << "an empty folder is honoured";
  tree_.remove("/s/orders");  // as container nodes go
  tree_.remove("/s");
  EXPECT_EQ(settled(), "nothing");
  tree_.set("/s", "");
  tree_.set("/s/orders", "");
  tree_.set("/s/pay1", "");
  EXPECT_EQ(settled(), "orders");
  tree_.set("/s/orders/a", nerve("10.0.0.2"));
  tree_.set("/s/pay1/a", nerve("10.0.1.1"));
  EXPECT_EQ(settled(), "orders 10.0.0.2:80; pay1 10.0.1.1:80");
}

TEST_F(ZookeeperWatchTest, an_instance_that_vanishes_between_the_list_and_its_read_is_left_out) {
  tree_.nodes = {{"/s/orders/a", nerve("10.0.0.1")}, {"/s/orders/b", nerve("10.0.0.2")}};
  make({rule("orders")});
  answer(watch_->take_asks(1)[0]);
  tree_.remove("/s/orders/b");
  EXPECT_EQ(settled(), "orders 10.0.0.1:80");
  // And one that vanishes and is back before anybody looks.
  tree_.remove("/s/orders/a");
  for (const auto& news : std::exchange(tree_.events, {})) watch_->happened(news);
  auto asks = watch_->take_asks(100);
  ASSERT_EQ(asks.size(), 2U);
  std::ranges::sort(asks, {}, &ZookeeperWatch::Ask::path);
  answer(asks[1]);  // its data: no node
  tree_.set("/s/orders/a", nerve("10.0.0.7"));
  answer(asks[0]);  // the list: it is there
  EXPECT_EQ(settled(), "orders 10.0.0.7:80");
}

TEST_F(ZookeeperWatchTest, an_event_that_overtakes_an_answer_makes_it_be_read_again) {
  tree_.nodes = {{"/s/orders/a", nerve("10.0.0.1")}};
  make({rule("orders")});
  const auto list = watch_->take_asks(1)[0];
  const ZookeeperAnswer old = tree_.read(list);
  tree_.set("/s/orders/b", nerve("10.0.0.2"));
  for (const auto& news : std::exchange(tree_.events, {})) watch_->happened(news);
  ASSERT_TRUE(watch_->answered(list, old));
  EXPECT_EQ(settled(), "orders 10.0.0.1:80 10.0.0.2:80");
}

TEST_F(ZookeeperWatchTest, a_service_is_told_of_when_all_of_its_reads_are_back) {
  tree_.nodes = {{"/s/orders/a", nerve("10.0.0.1")}};
  make({rule("orders")});
  EXPECT_EQ(settled(), "orders 10.0.0.1:80");
  tree_.set("/s/orders/b", nerve("10.0.0.2"));
  tree_.remove("/s/orders/a");
  for (const auto& news : std::exchange(tree_.events, {})) watch_->happened(news);
  for (const auto& ask : watch_->take_asks(100)) answer(ask);
  EXPECT_EQ(update(), "nothing") << "its new instance is not read yet, so the old one is not taken away";
  EXPECT_EQ(settled(), "orders 10.0.0.2:80");
}

TEST_F(ZookeeperWatchTest, a_new_session_takes_nothing_away_until_all_is_read) {
  tree_.nodes = {{"/s/orders/a", nerve("10.0.0.1")}, {"/s/pay/a", nerve("10.0.1.1", 99)}};
  make({rule("all")});
  EXPECT_EQ(settled(), "orders 10.0.0.1:80; pay 10.0.1.1:99");
  tree_.watches.clear();
  tree_.nodes = {{"/s/orders/a", nerve("10.0.0.1")}, {"/s/pay", ""}};
  watch_->restart();
  answer(watch_->take_asks(1)[0]);
  EXPECT_EQ(update(), "nothing");
  EXPECT_EQ(settled(), "orders 10.0.0.1:80; pay") << "its port is remembered";
}

TEST_F(ZookeeperWatchTest, the_chroot_is_put_before_paths_and_layouts_have_their_places) {
  tree_.nodes = {{"/prod/dubbo/com.shop.Orders/providers/dubbo%3A%2F%2F10.0.0.1%3A20880%2Fcom.shop.Orders", ""},
                 {"/prod/dubbo/com.shop.Orders/consumers/consumer%3A%2F%2F10.0.0.9%2Fcom.shop.Orders", ""},
                 {"/dubbo/com.shop.Orders/providers/dubbo%3A%2F%2F10.9.9.9%3A1%2Fcom.shop.Orders", ""}};
  make({rule("com.shop.*", ZookeeperLayout::kDubbo, "")}, "/prod");
  EXPECT_EQ(settled(), "com.shop.orders 10.0.0.1:20880");
  tree_.set("/prod/dubbo/com.shop.Orders/providers/dubbo%3A%2F%2F10.0.0.2%3A20880%2Fcom.shop.Orders", "");
  EXPECT_EQ(settled(), "com.shop.orders 10.0.0.1:20880 10.0.0.2:20880");
  EXPECT_TRUE(tree_.watches.contains({"/prod/dubbo", true}));
}

TEST_F(ZookeeperWatchTest, garbage_is_left_out_and_named_and_good_when_it_is_mended) {
  tree_.nodes = {{"/s/orders/a", nerve("10.0.0.1")}, {"/s/orders/b", "\x01\x02"}};
  make({rule("orders")});
  EXPECT_EQ(settled(), "orders 10.0.0.1:80");
  const auto reports = watch_->take_reports();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_THAT(reports[0].message, HasSubstr("read /s/orders/b in ZooKeeper: not a JSON object"));
  tree_.set("/s/orders/b", nerve("10.0.0.2"));
  EXPECT_EQ(settled(), "orders 10.0.0.1:80 10.0.0.2:80");
  EXPECT_THAT(watch_->take_reports(), IsEmpty());
}

TEST_F(ZookeeperWatchTest, what_may_not_be_read_ends_the_run_and_names_it) {
  make({rule("orders")});
  const auto result = watch_->answered(watch_->take_asks(1)[0], {.error = zookeeper_error::kNoAuth});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, base::ErrorKind::kPermission);
  EXPECT_THAT(result.error().to_string(), HasSubstr("read children of /s/orders"));
  EXPECT_THAT(result.error().to_string(), HasSubstr("auth_file"));
}

TEST_F(ZookeeperWatchTest, two_folders_with_one_name_and_port_are_one_service_and_the_other_is_named) {
  tree_.nodes = {{"/s/orders/a", nerve("10.0.0.1")}, {"/t/Orders/a", nerve("10.0.1.1")}};
  make({rule("orders"), rule("Orders", ZookeeperLayout::kNerve, "/t")});
  EXPECT_EQ(settled(), "orders 10.0.0.1:80");
  const auto reports = watch_->take_reports();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_THAT(reports[0].message, HasSubstr("/t/Orders"));
}

TEST_F(ZookeeperWatchTest, a_folder_can_be_a_service_and_hold_some) {
  tree_.nodes = {{"/s/orders/a", nerve("10.0.0.1")}, {"/s/orders/b/x", nerve("10.0.1.1")}};
  make({rule("orders"), rule("b", ZookeeperLayout::kNerve, "/s/orders"), rule("all", ZookeeperLayout::kNerve, "/s")});
  EXPECT_EQ(settled(), "orders 10.0.0.1:80; b 10.0.1.1:80");
  tree_.set("/s/orders/b/y", nerve("10.0.1.2"));
  EXPECT_EQ(settled(), "orders 10.0.0.1:80; b 10.0.1.1:80 10.0.1.2:80");
  make({rule("all", ZookeeperLayout::kNerve, "/s/orders"), rule("all", ZookeeperLayout::kNerve, "/s")});
  settle();
  tree_.nodes.clear();
  tree_.set("/s/orders", "");
  tree_.remove("/s/orders");
  settle();
}

/// Whatever is changed at random between any two answers, in the end it is known.
TEST_F(ZookeeperWatchTest, a_tree_that_changes_all_the_time_is_known_when_it_rests) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    base::Random random(seed);
    tree_ = {};
    make({rule("a"), rule("all")});
    const auto change = [&] {
      const std::string folder = std::string("/s/") + static_cast<char>('a' + random.below(3));
      const std::string node = folder + "/" + static_cast<char>('a' + random.below(3));
      const bool leaf = random.below(3) > 0;
      const std::string& path = leaf ? node : folder;
      if (random.below(2) == 0) {
        if (leaf && !tree_.there(folder)) tree_.set(folder, "");
        tree_.set(path, nerve("10.0.0." + std::to_string(1 + random.below(200))));
      } else if (tree_.nodes.contains(path) && (leaf || std::ranges::none_of(tree_.nodes, [&](const auto& one) {
                                                  return one.first.starts_with(folder + "/");
                                                }))) {
        tree_.remove(path);
      }
    };
    tree_.set("/s", "");
    for (int step = 0; step < 200; ++step) {
      if (random.below(2) == 0) change();
      if (random.below(4) == 0) {
        for (const auto& news : std::exchange(tree_.events, {})) watch_->happened(news);
      }
      if (const auto asks = watch_->take_asks(1); !asks.empty()) {
        const ZookeeperAnswer got = tree_.read(asks[0]);
        // Events of before the read come before its answer.
        for (const auto& news : std::exchange(tree_.events, {})) watch_->happened(news);
        ASSERT_TRUE(watch_->answered(asks[0], got));
      }
    }
    settle();
    std::map<std::string, std::set<std::string>> wanted;
    for (const auto& [path, data] : tree_.nodes) {
      if (std::ranges::count(path, '/') != 3) continue;
      wanted[path.substr(3, 1)].insert(data.substr(9, data.find('"', 9) - 9) + ":80");
    }
    std::map<std::string, std::set<std::string>> known;
    const auto all = watch_->take_update();
    ASSERT_TRUE(all);
    for (const auto& service : *all) {
      for (const auto& endpoint : service->endpoints) known[service->name].insert(endpoint.address.to_string());
    }
    EXPECT_EQ(known, wanted) << "seed " << seed;
  }
}

}  // namespace
}  // namespace mesh::discovery
